//! Does the gateway do what it says? A gateway with a table of tokens, a sink in memory and a clock that is
//! set by hand.

mod attached;
mod authentication;
mod changes;
mod enrolment;
mod fleet;
mod fleet_arbitrary;
mod heartbeats;
mod load;
mod metrics;
mod nodes;
mod pod_agents;
mod polls;
mod rig;
mod several;
mod skew;
mod uploads;
