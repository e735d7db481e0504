//! MetaStore: compare-and-set, leases and watches, embedded in one file or on etcd.
