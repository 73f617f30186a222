//! What `crate::go` reads, for the settings.

pub(super) use crate::go::{boolean, duration, integer, parse_duration};
