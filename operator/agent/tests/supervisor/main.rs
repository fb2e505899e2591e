//! Does the supervisor keep its promises, against a real TLS server and across kills, outages and refusals?

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod captures;
mod changes;
mod identity;
mod memory;
mod real;
mod skew;
mod starts;
mod support;
mod uploads;
