//! The etcd v3 protocol: messages, gRPC services and their JSON forms.
