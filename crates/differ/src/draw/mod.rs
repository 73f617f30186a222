//! What is asked next: a service is drawn, and its own file draws the request. Must not know how an
//! answer is compared.

mod auth;
mod cluster;
mod kv;
mod lease;
mod malformed;
mod recipes;
mod watch;

use crate::driver::Driver;

/// One step: mostly one request, at times a few that belong together.
///
/// # Errors
///
/// If the two systems differ.
pub(crate) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    match driver.chance.below(200) {
        0..=99 => kv::step(driver).await,
        100..=124 => watch::step(driver).await,
        125..=149 => lease::step(driver).await,
        150..=169 => auth::step(driver).await,
        170..=183 => recipes::step(driver).await,
        184..=189 => cluster::step(driver).await,
        190..=195 => cluster::maintenance(driver).await,
        _ => malformed::step(driver).await,
    }
}

/// What comes first: who they are.
///
/// # Errors
///
/// If the two systems differ.
pub(crate) async fn begin(driver: &mut Driver) -> anyhow::Result<()> {
    cluster::introduce(driver).await
}

/// What comes last: everything that watches told, and everything that is there.
///
/// # Errors
///
/// If the two systems differ.
pub(crate) async fn end(driver: &mut Driver) -> anyhow::Result<()> {
    watch::close_all(driver).await?;
    kv::read_everything(driver).await
}
