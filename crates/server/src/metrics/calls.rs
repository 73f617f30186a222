//! How long calls take, method by method: with the names and the bounds of etcd's, if it is asked for.
//! Must not know what a method does.

use super::{Histogram, Page, add, load};
use crate::method::Method;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The upper bounds of the buckets, in milliseconds: those of all gRPC servers in Go.
const BOUNDS_MILLIS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// See the module. One for each, in the order of [`Method::ALL`].
#[derive(Debug)]
pub(super) struct CallTimes([Times; Method::COUNT]);

#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; BOUNDS_MILLIS.len()],
    beyond: AtomicU64,
    sum_micros: AtomicU64,
}

impl Default for CallTimes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Times::default()))
    }
}

impl CallTimes {
    pub(super) fn took(&self, method: Method, time: Duration) {
        let Some(times) = self.0.get(method.index()) else { return };
        let place = BOUNDS_MILLIS.iter().position(|bound| time <= Duration::from_millis(*bound));
        let bucket = place.and_then(|place| times.buckets.get(place)).unwrap_or(&times.beyond);
        add(bucket, 1);
        add(&times.sum_micros, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn render(&self, out: &mut Page) {
        let name = "grpc_server_handling_seconds";
        out.head(name, "histogram", "How long gRPC calls took, until their answers were ready.");
        for (method, times) in Method::ALL.into_iter().zip(&self.0) {
            out.buckets(name, &Page::labels_of(method), &times.histogram());
        }
    }
}

impl Times {
    fn histogram(&self) -> Histogram {
        let bounds = BOUNDS_MILLIS.iter().map(|bound| Duration::from_millis(*bound).as_secs_f64());
        Histogram {
            buckets: bounds.zip(self.buckets.iter().map(load)).collect(),
            beyond: load(&self.beyond),
            sum_seconds: Duration::from_micros(load(&self.sum_micros)).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_falls_into_the_bucket_whose_bound_is_not_below_it() {
        let times = CallTimes::default();
        for millis in [5, 6, 10_000, 10_001] {
            times.took(Method::Put, Duration::from_millis(millis));
        }
        let mut page = Page::default();
        times.render(&mut page);
        let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        for (bound, count) in [("0.005", 1), ("0.01", 2), ("5", 2), ("10", 3), ("+Inf", 4)] {
            let line =
                format!("grpc_server_handling_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n");
            assert!(page.text.contains(&line), "{line} in:\n{}", page.text);
        }
        let line = format!("grpc_server_handling_seconds_count{{{labels}}} 4\n");
        assert!(page.text.contains(&line), "{line}");
    }
}
