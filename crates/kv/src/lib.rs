//! The replicated key-value store: MVCC revisions as etcd defines them.
