//! A Raft library: driver, runtime, transport and the API that people import.
