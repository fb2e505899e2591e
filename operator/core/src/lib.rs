//! What should happen? Pure functions: time, randomness and settings are arguments, nothing here can do I/O.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod agent;
pub mod budget;
pub mod capture;
pub mod conditions;
pub mod container;
pub mod destination;
pub mod election;
pub mod hash;
pub mod image;
pub mod inject;
pub mod link;
pub mod outbox;
pub mod pick;
pub mod pod;
pub mod policy;
pub mod sampling;
pub mod schedule;
pub mod selector;
pub mod session;
pub mod storage;
pub mod text;
pub mod time;
pub mod trigger;
pub mod view;
