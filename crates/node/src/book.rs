//! The chapters of the book, so that `cargo test` compiles the code in them. Nothing else: the text is in
//! `docs/book/`, and `tests/book.rs` sees that no chapter is left out here.

#[doc = include_str!("../../../docs/book/quick-start.md")]
mod quick_start {}

#[doc = include_str!("../../../docs/book/concepts.md")]
mod concepts {}

#[doc = include_str!("../../../docs/book/operations.md")]
mod operations {}

#[doc = include_str!("../../../docs/book/testing.md")]
mod testing {}

#[doc = include_str!("../../../docs/book/comparison.md")]
mod comparison {}
