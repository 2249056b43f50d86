//! Says in one line what to run on a machine that lacks libclang: pg_query's own build would only say that bindgen has panicked.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in ["LIBCLANG_PATH", "LLVM_CONFIG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
        if std::env::var_os(variable).is_some() {
            return;
        }
    }
    // Elsewhere it is found in other ways. A warning, since it may stand where only bindgen looks.
    if cfg!(target_os = "linux") && !places().iter().any(|dir| has_libclang(dir)) {
        println!("cargo::warning=libclang is not found, which building pg_query needs: run `make set-up`");
    }
}

fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"]
        .map(PathBuf::from)
        .into();
    for parent in ["/usr/lib", "/usr/lib64", "/usr/local"] {
        for dir in children(Path::new(parent)) {
            places.push(dir.join("lib"));
            places.push(dir.join("lib64"));
            places.push(dir);
        }
    }
    places
}

/// libclang-cpp is another library.
fn has_libclang(dir: &Path) -> bool {
    let is_libclang = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libclang") && !name.starts_with("libclang-cpp") && name.contains(".so")
    };
    children(dir).iter().any(is_libclang)
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}
