//! The broker: connections, requests, partitions, machines.
