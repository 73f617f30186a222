//! Whole clusters in one thread and virtual time, under faults, with judges.
