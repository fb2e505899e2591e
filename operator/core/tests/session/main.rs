//! A session, step by step: what each observation leads to, and that every session ends whatever happens.
#![allow(missing_docs, clippy::unwrap_used)]

mod arbitrary;
mod attach;
mod choose;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod destinations;
mod fold;
mod history;
mod kinds;
mod life;
mod notify;
mod places;
mod samples;
mod size;
mod storage;
mod trend;
mod world;
mod yields;
