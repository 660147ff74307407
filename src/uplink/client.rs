//! ⇄ client
