# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Speech and music as programs make them that hold recordings: noise which no formula is like.

Speech comes from flite and espeak-ng, music from fluidsynth with the instruments of two sound
fonts (MIT, parts of one CC0): in Debian and Ubuntu ``apt install flite espeak-ng fluidsynth
fluid-soundfont-gm musescore-general-soundfont``. What is said and played is drawn, not taken from
anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
import shutil
import subprocess
import tempfile

import mido
import numpy as np

from vts_ros.errors import SoundError
from vts_ros.lab.sounds.sound_files import read_at_rate
from vts_ros.lab.sounds.waves import between, filtered, Samples
from vts_ros.sound.log_spectrum import SAMPLE_RATE

PROGRAMS = ('flite', 'espeak-ng', 'fluidsynth')
FONTS = (Path('/usr/share/sounds/sf2/FluidR3_GM.sf2'),
         Path('/usr/share/sounds/sf3/MuseScore_General_Full.sf3'))
_PACKAGES = 'flite espeak-ng fluidsynth fluid-soundfont-gm musescore-general-soundfont'
_FLITE_VOICES = ('kal', 'kal16', 'awb', 'rms', 'slt')
_ESPEAK_KINDS = ('', *(f'+m{number}' for number in range(1, 8)),
                 *(f'+f{number}' for number in range(1, 6)),
                 '+croak', '+whisper', '+klatt', '+klatt2', '+klatt4')
#: Some languages of espeak-ng need voices that are not installed: another is drawn.
_TRIES = 20
#: General MIDI: all that has a pitch; drums with one; and noises of the last group, but for
#: the telephone, which rings as a bell of a level crossing may.
_PITCHED, _STRUCK, _EFFECTS = range(112), range(112, 120), (120, 121, 122, 123, 125, 126, 127)
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), tuple(range(12)))
_DRUMS = (36, 38, 42, 46, 49, 51)
#: Between two pieces, so that the end of one is not heard in the next (s).
_PAUSE_SEC = 1.0


def require_programs() -> None:
    """
    Look for what speaks and plays.

    Raises
    ------
    SoundError
        If something is not installed.

    """
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    missing += [font.name for font in FONTS if not font.exists()]
    if missing:
        raise SoundError(f'not installed: {", ".join(missing)}; in Debian and Ubuntu: '
                         f'apt install {_PACKAGES}')


def spoken(rng: np.random.Generator, count: int) -> Samples:
    """
    Return so many samples of one or two people that talk, in a place or out of a speaker.

    Raises
    ------
    SoundError
        If nothing can be said.

    """
    talk = np.zeros(count)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2 if rng.random() < 0.25 else 1):
            # Somebody may have begun before.
            at = int(rng.uniform(-2.0, 3.0) * SAMPLE_RATE)
            while at < count:
                sentence = _sentence(rng, Path(folder) / 'said.wav') * between(rng, 0.5, 1.0)
                heard = sentence[max(0, -at):count - at]
                talk[max(0, at):max(0, at) + len(heard)] += heard
                at += len(sentence) + int(between(rng, 0.1, 3.0) * SAMPLE_RATE)
    if rng.random() < 0.4:
        low, high = between(rng, 60.0, 400.0), between(rng, 2500.0, 6500.0)
        talk = filtered(talk, lambda f: 1.0 / (1.0 + (low / (f + 1.0)) ** 4) / (
            1.0 + (f / high) ** 8))
    if rng.random() < 0.3:
        # Too loud for the speaker that it comes from.
        talk = np.tanh(between(rng, 1.0, 8.0) * talk / (talk.std() + 1e-9))
    return talk


def _sentence(rng: np.random.Generator, path: Path) -> Samples:
    """Return words of no language, in one of many voices."""
    for _ in range(_TRIES):
        command = _to_say(rng, path)
        done = subprocess.run(command, capture_output=True, check=False)
        if not done.returncode:
            break
    else:
        raise SoundError(f'{command[0]} cannot speak: {done.stderr.decode().strip()}')
    said = read_at_rate(path)
    if rng.random() < 0.25:
        # As a child or a giant, or as an animal that howls.
        speed = between(rng, 0.6, 1.7) * np.exp(
            0.3 * np.sin(np.linspace(0.0, rng.uniform(0.0, 12.0), len(said))) * rng.uniform())
        said = np.interp(np.cumsum(speed), np.arange(len(said)), said, right=0.0)
    return said


def _to_say(rng: np.random.Generator, path: Path) -> list[str]:
    text = ' '.join(_word(rng) for _ in range(rng.integers(3, 16))) + str(rng.choice(list('.?!')))
    if rng.random() < 0.6:
        return ['flite', '-voice', str(rng.choice(_FLITE_VOICES)),
                '--setf', f'duration_stretch={between(rng, 0.75, 1.5):.2f}',
                '--setf', f'int_f0_target_mean={rng.uniform(80.0, 260.0):.0f}',
                '--setf', f'int_f0_target_stddev={between(rng, 8.0, 50.0):.0f}',
                '-t', text, '-o', str(path)]
    return ['espeak-ng', '-v', str(rng.choice(_languages())) + str(rng.choice(_ESPEAK_KINDS)),
            '-p', str(rng.integers(10, 99)), '-s', str(rng.integers(110, 230)),
            '-w', str(path), text]


def _word(rng: np.random.Generator) -> str:
    return ''.join(
        str(rng.choice(('', 'b', 'd', 'f', 'g', 'h', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v',
                        'w', 'z', 'sh', 'ch', 'th', 'st', 'pr', 'kl')))
        + str(rng.choice(('a', 'e', 'i', 'o', 'u', 'ai', 'ee', 'oo', 'ou')))
        + str(rng.choice(('', '', 'n', 'r', 's', 't', 'l', 'm')))
        for _ in range(rng.integers(1, 4)))


@cache
def _languages() -> tuple[str, ...]:
    listed = subprocess.run(['espeak-ng', '--voices'], capture_output=True, text=True, check=True)
    return tuple(line.split()[1] for line in listed.stdout.splitlines()[1:])


def played(rngs: Sequence[np.random.Generator], count: int) -> list[Samples]:
    """
    Return pieces of music of so many samples, one from each generator.

    One call plays many, since a sound font takes seconds to load.
    """
    fonts = [int(rng.integers(len(FONTS))) for rng in rngs]
    pieces = [_piece(rng, count / SAMPLE_RATE) for rng in rngs]
    found: dict[int, Samples] = {}
    for number, font in enumerate(FONTS):
        chosen = [place for place, wanted in enumerate(fonts) if wanted == number]
        if chosen:
            found |= zip(chosen, _rendered([pieces[place] for place in chosen], font, count),
                         strict=True)
    return [found[place] for place in range(len(rngs))]


def _rendered(pieces: list[list[tuple[float, mido.Message]]], font: Path, count: int
              ) -> list[Samples]:
    """Return pieces as the instruments of a font play them."""
    apart = count + int(_PAUSE_SEC * SAMPLE_RATE)
    notes = sorted(((place * apart / SAMPLE_RATE + at, message)
                    for place, piece in enumerate(pieces) for at, message in piece),
                   key=lambda note: note[0])
    track, last = mido.MidiTrack(), 0
    for at, message in notes:
        # At 120 beats a minute a tick is a millisecond.
        ticks = max(last, round(1000.0 * at))
        track.append(message.copy(time=ticks - last))
        last = ticks
    with tempfile.TemporaryDirectory() as folder:
        score, wave = Path(folder) / 'score.mid', Path(folder) / 'played.wav'
        mido.MidiFile(ticks_per_beat=500, tracks=[track]).save(score)
        subprocess.run(
            ['fluidsynth', '-ni', '-o', 'synth.dynamic-sample-loading=1', '-g', '0.5',
             '-r', str(SAMPLE_RATE), '-F', str(wave), str(font), str(score)],
            check=True, capture_output=True)
        sound = read_at_rate(wave)
    sound = np.pad(sound, (0, len(pieces) * apart))
    return [sound[start:start + count] for start in range(0, len(pieces) * apart, apart)]


def _piece(rng: np.random.Generator, seconds: float) -> list[tuple[float, mido.Message]]:
    """Return the messages of a piece, with their times from its start."""
    beat_sec = between(rng, 0.05, 0.9)
    channels = int(rng.choice([1, 2, 3, 4], p=[0.45, 0.25, 0.15, 0.15]))
    piece = [note for channel in range(channels)
             for note in _voice(rng, channel, beat_sec, seconds)]
    if rng.random() < 0.3:
        for at in np.arange(0.0, seconds, beat_sec):
            piece += [(at, mido.Message('note_on', channel=9, note=int(drum),
                                        velocity=int(rng.integers(40, 120))))
                      for drum in rng.choice(_DRUMS, rng.integers(0, 3), replace=False)]
    return piece + [(seconds + 0.02, mido.Message('control_change', channel=channel, control=120))
                    for channel in (*range(channels), 9)]


def _voice(rng: np.random.Generator, channel: int, beat_sec: float, seconds: float
           ) -> list[tuple[float, mido.Message]]:
    """Return what an instrument plays: a walk over a scale, with chords, rests and bends."""
    def control(number: int, value: int) -> mido.Message:
        return mido.Message('control_change', channel=channel, control=number, value=value)

    groups = (_PITCHED, _STRUCK, _EFFECTS)
    program = int(rng.choice(groups[rng.choice(3, p=(0.9, 0.05, 0.05))]))
    vibrato = int(rng.integers(0, 127)) if rng.random() < 0.3 else 0
    voice = [(0.0, mido.Message('program_change', channel=channel, program=program)),
             (0.0, control(7, int(rng.integers(60, 127)))), (0.0, control(1, vibrato)),
             (0.0, control(91, int(rng.integers(0, 100))))]
    scale = _SCALES[rng.integers(len(_SCALES))]
    lowest, leap = int(rng.integers(36, 80)), int(rng.integers(1, 6))
    held, slow = rng.uniform(0.3, 1.1), int(rng.choice([1, 1, 2, 4]))
    place, at = int(rng.integers(0, 14)), rng.uniform(0.0, 0.5)
    while at < seconds:
        length = beat_sec * slow * float(rng.choice([0.5, 1.0, 1.0, 1.0, 2.0, 3.0]))
        place = int(np.clip(place + rng.integers(-leap, leap + 1), 0, 20))
        if rng.random() > 0.1:
            for above in (0,) if rng.random() < 0.8 else (0, 2, 4):
                octave, step = divmod(place + above, len(scale))
                note = min(115, lowest + 12 * octave + scale[step])
                voice += [(at, mido.Message('note_on', channel=channel, note=note,
                                            velocity=int(rng.integers(50, 120)))),
                          (min(at + held * length, seconds),
                           mido.Message('note_off', channel=channel, note=note))]
        if rng.random() < 0.05:
            most = int(rng.integers(-3800, 3800))
            voice += [(min(at + length * part / 8.0, seconds), mido.Message(
                'pitchwheel', channel=channel, pitch=int(most * np.sin(np.pi * part / 8.0))))
                for part in range(9)]
        at += length
    return voice
