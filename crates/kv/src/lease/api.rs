//! The requests and responses about leases. Grant and revoke are etcd's messages with etcd's field
//! numbers; renewing and expiring are ours, because etcd does not send these two through its log.

use crate::api::ResponseHeader;
use prost::Message;

/// Makes a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseGrantRequest {
    /// How long it lives without being renewed, in seconds.
    #[prost(int64, tag = "1")]
    pub ttl: i64,
    /// Its id. A server that is asked to choose has chosen before it proposes this.
    #[prost(int64, tag = "2")]
    pub id: i64,
}

/// What comes back for a [`LeaseGrantRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LeaseGrantResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The lease's id.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// Its time to live in seconds.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
    /// Never used.
    #[prost(string, tag = "4")]
    pub error: String,
}

/// Ends a lease and deletes its keys.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseRevokeRequest {
    /// Which one.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// What comes back for a [`LeaseRevokeRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseRevokeResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

/// Renews leases, all of them as of one moment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LeaseRenewRequest {
    /// Which ones.
    #[prost(int64, repeated, tag = "1")]
    pub ids: Vec<i64>,
}

/// What comes back for a [`LeaseRenewRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LeaseRenewResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// For each id of the request the lease's time to live in seconds; 0 if there is no such lease.
    #[prost(int64, repeated, tag = "2")]
    pub ttls: Vec<i64>,
}

/// Ends leases whose time is up, each at a revision of its own.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LeaseExpireRequest {
    /// Which ones.
    #[prost(message, repeated, tag = "1")]
    pub leases: Vec<Overdue>,
}

/// A lease whose time was up when somebody looked.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Overdue {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// [`crate::Lease::renewed_at`] as it was then: a lease that was renewed since is left alone.
    #[prost(uint64, tag = "2")]
    pub renewed_at: u64,
}

/// What comes back for a [`LeaseExpireRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseExpireResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// How many leases ended.
    #[prost(uint64, tag = "2")]
    pub expired: u64,
}
