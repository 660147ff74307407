//! ⇄ wiring
