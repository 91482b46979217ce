//! The HTTP logic of the web appliance.
#![forbid(unsafe_code)]
