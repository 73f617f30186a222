//! The file that `quorate snapshot save` writes: a store's bytes, then their SHA-256. Checks the one by
//! the other; must not know what the bytes mean, but how they begin.

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// What begins a store's bytes: `quorate_kv` writes it.
const BEGINNING: &[u8; 8] = b"QRKVSNAP";
/// What ends the file.
const DIGEST_BYTES: u64 = 32;
/// How much is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Checks that the file ends with the digest of what is before, and goes back to its beginning.
///
/// # Errors
///
/// If it does not, or cannot be read.
pub(crate) fn verify(file: &mut File) -> anyhow::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let content = file.metadata()?.len().checked_sub(DIGEST_BYTES);
    let content = content.context("it is too short to be a snapshot")?;
    let mut digest = Sha256::new();
    let mut rest = file.take(content);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = rest.read(&mut piece)?;
        match piece.get(..count) {
            Some(read) if count > 0 => digest.update(read),
            Some(_) | None => break,
        }
    }
    let mut expected = Vec::new();
    let file = rest.into_inner();
    file.read_to_end(&mut expected)?;
    let found = digest.finalize();
    if found.as_slice() != expected {
        let mut beginning = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(u64::try_from(BEGINNING.len())?).read_to_end(&mut beginning)?;
        ensure!(
            beginning == BEGINNING,
            "it is no Quorate snapshot: expected it to begin with `{}`, found `{}`",
            BEGINNING.escape_ascii(),
            beginning.escape_ascii()
        );
        bail!(
            "it is damaged or was cut off: it ends with the SHA-256 {}, expected {}, which is that of \
             what stands before",
            hex(&expected),
            hex(&found)
        );
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn verified(content: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        verify(&mut file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_whole_if_it_ends_with_the_digest_of_the_rest() {
        let content = b"QRKVSNAP, and more";
        let whole = [&content[..], &Sha256::digest(content)].concat();
        assert_eq!(verified(&whole), Ok(()));
        let mut other = whole.clone();
        other[9] ^= 1;
        let said = verified(&other).unwrap_err();
        let ends_with = format!("ends with the SHA-256 {}", hex(&Sha256::digest(content)));
        assert!(said.contains(&ends_with), "{said}");
        assert!(verified(&whole[..49]).unwrap_err().contains("damaged or was cut off"));
        assert!(verified(&whole[..31]).unwrap_err().contains("too short"));
    }

    #[test]
    fn a_file_of_another_kind_is_told_from_a_damaged_one() {
        let said = verified(b"root:x:0:0:root:/root:/bin/bash\nand so on").unwrap_err();
        assert!(said.starts_with("it is no Quorate snapshot"), "{said}");
        assert!(said.contains("`QRKVSNAP`, found `root:x:0`"), "{said}");
    }
}
