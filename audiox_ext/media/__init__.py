"""Audio and video files, waveforms, frames and loudness."""
