//! The kit: certificates made at run time, an origin that keeps what it got, services in memory, raw clients.

mod certificates;
mod client;
mod fakes;
mod origin;
pub mod product;
mod proxy;

pub use certificates::TestCa;
pub use client::{Client, h2_client, tls_config};
pub use fakes::{FakeAudit, FakeInspection};
pub use origin::Origin;
pub use proxy::{Setup, TestProxy};
