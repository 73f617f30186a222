//! How this server's services are, in the words of gRPC's health service: all alike, from the moment
//! they are served until the member stops. Must not know how that is told.

use super::{Service, reflection};
use crate::errors::Rejection;
use crate::grpc::frame;
use bytes::Bytes;
use futures_util::FutureExt;
use prost::Message;
use quorate::Node;
use quorate_etcd_api::health::health_check_response::ServingStatus;
use quorate_etcd_api::health::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::watch as watch_channel;

/// See the module.
pub(crate) struct HealthWatch {
    node: Node,
    stopping: watch_channel::Receiver<bool>,
    /// Whether the service is one of ours.
    is_known: bool,
    told: Option<ServingStatus>,
}

/// Whether a service is served here; the empty name stands for the server as a whole.
fn is_known(service: &str) -> bool {
    service.is_empty() || reflection::service_names().contains(&service)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

impl Service {
    pub(super) fn health_check(&self, message: Bytes) -> Result<Bytes, Rejection> {
        let watch = self.watch_health(message)?;
        if !watch.is_known {
            return Err(Rejection::UnknownHealthService);
        }
        Ok(frame::encode(&response(watch.status())))
    }

    /// Begins to look at how a service is.
    pub(crate) fn watch_health(&self, message: Bytes) -> Result<HealthWatch, Rejection> {
        let request = HealthCheckRequest::decode(message)?;
        Ok(HealthWatch {
            node: self.node.clone(),
            stopping: self.stopping(),
            is_known: is_known(&request.service),
            told: None,
        })
    }
}

impl HealthWatch {
    fn status(&self) -> ServingStatus {
        if !self.is_known {
            return ServingStatus::ServiceUnknown;
        }
        if self.is_stopping() || self.node.failure().now_or_never().is_some() {
            return ServingStatus::NotServing;
        }
        ServingStatus::Serving
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// How the service is, once that is another thing than what was told last; `None` when the server
    /// stops and has told so. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<HealthCheckResponse> {
        loop {
            let status = self.status();
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(response(status));
            }
            if self.is_stopping() {
                return None;
            }
            let has_ended = status == ServingStatus::NotServing;
            tokio::select! {
                // The service itself is gone if this fails.
                changed = self.stopping.changed() => changed.ok()?,
                _ = self.node.failure(), if !has_ended && self.is_known => {}
            }
        }
    }
}
