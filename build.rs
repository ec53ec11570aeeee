//! One switch for the linker.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A position-independent program has its tables of addresses filled in at each start: 370 kB of private memory for
    // each shim (measured), of which there may be hundreds. Linked to a fixed address, these pages are the file's, and
    // shared.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
