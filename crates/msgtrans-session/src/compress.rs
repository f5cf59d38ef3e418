//! Payload compression: bounded decompression of whatever a peer may send, compression where it is agreed.
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use bytes::Bytes;
use msgtrans_core::{Compression, ConfigError, DecodeError, EncodeError, Features};

/// When and how a session compresses payloads of packets whose application did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionConfig {
    algorithm: Compression,
    threshold: usize,
}

impl CompressionConfig {
    /// `algorithm` for payloads of at least `threshold` bytes.
    pub fn new(algorithm: Compression, threshold: usize) -> Self {
        Self {
            algorithm,
            threshold,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !supported().contains(feature_of(self.algorithm).unwrap_or(Features::LZ4)) {
            let expected = "must be Zstd or Zlib, with the feature \"compression\" on";
            return Err(ConfigError::new(
                "compression",
                format_args!("{:?}", self.algorithm),
                expected,
            ));
        }
        if self.threshold == 0 {
            return Err(ConfigError::new(
                "compression threshold",
                0,
                "must be at least 1 byte",
            ));
        }
        Ok(())
    }

    /// The algorithm for a payload of `len` bytes towards a peer with `features`.
    pub(crate) fn choose(&self, len: usize, features: Features) -> Compression {
        match feature_of(self.algorithm) {
            Some(feature) if len >= self.threshold && features.contains(feature) => self.algorithm,
            _ => Compression::None,
        }
    }
}

impl Default for CompressionConfig {
    /// zstd from 1 KiB on: below that a frame rarely shrinks.
    fn default() -> Self {
        Self::new(Compression::Zstd, 1024)
    }
}

/// What this build can decompress, as it stands in a Hello.
pub(crate) const fn supported() -> Features {
    if cfg!(feature = "compression") {
        Features::ZSTD.with(Features::ZLIB)
    } else {
        Features::NONE
    }
}

pub(crate) fn feature_of(algorithm: Compression) -> Option<Features> {
    match algorithm {
        Compression::Zstd => Some(Features::ZSTD),
        Compression::Zlib => Some(Features::ZLIB),
        Compression::Lz4 => Some(Features::LZ4),
        _ => None,
    }
}

/// Decompresses `payload`, refusing to make more than `max` bytes of it. What a frame claims about its size is never
/// trusted: memory grows with what comes out.
pub fn decompress(
    algorithm: Compression,
    payload: &Bytes,
    max: usize,
) -> Result<Bytes, DecodeError> {
    match algorithm {
        Compression::None => Ok(payload.clone()),
        #[cfg(feature = "compression")]
        Compression::Zstd => codecs::unzstd(payload, max),
        #[cfg(feature = "compression")]
        Compression::Zlib => codecs::unzlib(payload, max),
        other => {
            let _ = max;
            Err(DecodeError::Decompress {
                why: format!("{other:?} is not compiled in"),
            })
        }
    }
}

/// Compresses `payload`; `None` where it would not shrink.
pub fn compress(algorithm: Compression, payload: &Bytes) -> Result<Option<Bytes>, EncodeError> {
    match algorithm {
        Compression::None => Ok(None),
        #[cfg(feature = "compression")]
        Compression::Zstd => codecs::zstd(payload),
        #[cfg(feature = "compression")]
        Compression::Zlib => codecs::zlib(payload),
        other => Err(EncodeError::CompressionUnavailable { compression: other }),
    }
    .map(|packed: Option<Bytes>| packed.filter(|packed| packed.len() < payload.len()))
}

#[cfg(feature = "compression")]
mod codecs {
    use std::io::{Read, Write};

    use bytes::Bytes;
    use flate2::read::ZlibDecoder;
    use flate2::write::ZlibEncoder;
    use msgtrans_core::{DecodeError, EncodeError};

    /// 8 MiB: what a decoder is willing to keep as window (RFC 8878 recommends decoders to support at least that).
    const WINDOW_LOG_MAX: u32 = 23;
    const ZSTD_LEVEL: i32 = 1;
    /// How a frame of zstd begins. The library also takes skippable frames, which would decompress to nothing.
    const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

    fn broken(why: impl ToString) -> DecodeError {
        DecodeError::Decompress {
            why: why.to_string(),
        }
    }

    pub(super) fn unzstd(payload: &Bytes, max: usize) -> Result<Bytes, DecodeError> {
        if !payload.starts_with(&ZSTD_MAGIC) {
            return Err(broken("not a frame of zstd"));
        }
        let mut rest: &[u8] = payload;
        let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut rest)
            .map_err(broken)?
            .single_frame();
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
        let out = read_bounded(&mut decoder, max)?;
        drop(decoder);
        if rest.is_empty() {
            Ok(out)
        } else {
            Err(broken(format!("{} bytes behind the frame", rest.len())))
        }
    }

    pub(super) fn unzlib(payload: &Bytes, max: usize) -> Result<Bytes, DecodeError> {
        let mut decoder = ZlibDecoder::new(&payload[..]);
        let out = read_bounded(&mut decoder, max)?;
        if decoder.total_in() == payload.len() as u64 {
            Ok(out)
        } else {
            Err(broken(format!(
                "{} bytes behind the stream",
                (payload.len() as u64).saturating_sub(decoder.total_in())
            )))
        }
    }

    fn read_bounded(decoder: &mut impl Read, max: usize) -> Result<Bytes, DecodeError> {
        let mut out = Vec::new();
        // One byte more than allowed tells "exactly the limit" from "above it".
        decoder
            .by_ref()
            .take((max as u64).saturating_add(1))
            .read_to_end(&mut out)
            .map_err(broken)?;
        if out.len() > max.saturating_add(usize::from(cfg!(msgtrans_planted = "11"))) {
            return Err(DecodeError::DecompressedTooLarge { max });
        }
        Ok(out.into())
    }

    pub(super) fn zstd(payload: &Bytes) -> Result<Option<Bytes>, EncodeError> {
        let packed = zstd::bulk::compress(payload, ZSTD_LEVEL);
        packed
            .map(|packed| Some(packed.into()))
            .map_err(|error| EncodeError::Compress {
                why: error.to_string(),
            })
    }

    pub(super) fn zlib(payload: &Bytes) -> Result<Option<Bytes>, EncodeError> {
        let mut encoder = ZlibEncoder::new(
            Vec::with_capacity(payload.len() / 2),
            flate2::Compression::fast(),
        );
        let packed = encoder.write_all(payload).and_then(|()| encoder.finish());
        packed
            .map(|packed| Some(packed.into()))
            .map_err(|error| EncodeError::Compress {
                why: error.to_string(),
            })
    }
}
