//! Nothing: this package is there for the tests of the crate `etcd-client`, which come from the registry.
