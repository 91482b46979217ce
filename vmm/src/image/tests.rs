//! Images built byte by byte.
use super::*;
