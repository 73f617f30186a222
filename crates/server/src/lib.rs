//! The etcd-compatible server: gRPC, HTTP gateway, limits and process life.
