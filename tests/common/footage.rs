//! Finds real footage, which is not part of the repository: tests and benches use drawn scenes without it.

use std::path::{Path, PathBuf};

/// Where footage lies relative to the repository, unless `TAIMAT_FOOTAGE` names another directory. It holds `camera/` and
/// `motion/`; docs/notes/footage.md names the clips and says where the public clips come from.
const FOOTAGE: &str = "../shared/data";

/// The directory `part` of the footage, whether it exists or not.
pub fn footage(part: &str) -> PathBuf {
    let base = std::env::var_os("TAIMAT_FOOTAGE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(FOOTAGE), PathBuf::from);
    base.join(part)
}
