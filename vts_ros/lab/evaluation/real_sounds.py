# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real sound in Debian packages: what is in which file, and which packages are to judge by."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

#: Sound in which there is none of ``sound_events.KINDS``.
NOTHING = ('music', 'voices', 'animals', 'machines', 'traffic', 'ambience', 'effects')
#: Not judged: what it is cannot be told, or it is of a kind in some sense only (explosions, ship
#: horns, alarms that are no vehicle).
LEFT_OUT = 'left out'


class Package(NamedTuple):
    """
    A package with sound.

    Attributes
    ----------
    name, version
        In Debian 12; others may have other files.
    split
        ``val`` or ``test``: of a whole package, as its files come from the same hands.
    kinds
        Patterns of paths, and what there is; the first that matches counts. A file that none
        matches is left out.

    """

    name: str
    version: str
    split: str
    kinds: tuple[tuple[str, str], ...]

    def kind_of(self, path: str) -> str:
        """Return what there is in a file, by its path below the folder of the package."""
        return next((kind for pattern, kind in self.kinds if fnmatchcase(path, pattern)), LEFT_OUT)


#: What is in a file was found by its name; each siren, and most of what is named like a warning,
#: by its spectrogram as well. Nobody has listened to them. Effects of colobot-common-sounds have
#: numbers for names, and music may hold horns and bells: some false alarms may be none. The splits
#: were written down before any network had heard any of it. A name after # is that of a sound in a
#: container.
PACKAGES = (
    Package('tuxpaint-stamps-default', '2022.06.04-1', 'val', (
        # Names of things, spoken in many languages: their speakers are few and the files many.
        ('*_desc*', LEFT_OUT), ('*/symbols/*', LEFT_OUT), ('*/roadsigns/*', LEFT_OUT),
        ('*/vehicles/emergency/firetruck.ogg', 'siren'), ('*_[a-z][a-z].ogg', LEFT_OUT),
        ('*/vehicles/*', LEFT_OUT), ('*party-horn*', LEFT_OUT), ('*/animals/*', 'animals'),
        ('*/hobbies/music/*', 'music'), ('*/final-roll-call.ogg', 'music'),
        ('*/household/*', 'machines'), ('*/naturalforces/*', 'ambience'),
        ('*.ogg', 'effects'), ('*.wav', 'effects'))),
    Package('micropolis-data', '0.0.20071228-10', 'val', (
        ('*/siren.wav', 'siren'), ('*/honkhonk-*.wav', 'horn'), ('*/skid.wav', 'screech'),
        ('*/explosion-*.wav', LEFT_OUT), ('*/monster.wav', LEFT_OUT),
        ('*/nuclear.wav', LEFT_OUT), ('*/quack*.wav', 'animals'), ('*/cuckoo.wav', 'animals'),
        ('*/heavytraffic.wav', 'voices'), ('*/police.wav', 'voices'), ('*/fire.wav', 'voices'),
        ('*.wav', 'effects'))),
    Package('simutrans-pak64', '121.0-1', 'val', (
        ('*/crossing.wav', 'bell'), ('*/boat-horn.wav', LEFT_OUT), ('*/dock.wav', LEFT_OUT),
        ('*/explosion.wav', LEFT_OUT), ('*/bus.wav', 'traffic'), ('*/truck.wav', 'traffic'),
        ('*/horse.wav', 'animals'), ('*/seagulls.wav', 'animals'),
        ('*/forest.wav', 'ambience'), ('*/tropic.wav', 'ambience'),
        ('*/desert.wav', 'ambience'), ('*/arctic.wav', 'ambience'), ('*/Water.wav', 'ambience'),
        ('*.wav', 'machines'))),
    Package('torcs-data', '1.3.7+dfsg-5', 'val', (
        ('*/skid*.wav', 'screech'), ('*crash*.wav', 'crash'), ('*/boom.wav', LEFT_OUT),
        ('*/road-ride.wav', 'traffic'), ('*/out_of_road*.wav', 'traffic'),
        ('*.wav', 'machines'))),
    Package('asterisk-core-sounds-en-wav', '1.6.1-1', 'val', (('*.wav', 'voices'),)),
    Package('asterisk-moh-opsound-wav', '2.03-1.1', 'val', (('*.wav', 'music'),)),
    Package('colobot-common-sounds', '0.2.0-2', 'val', (
        ('*/music/*.ogg', 'music'), ('*/sounds/*.wav', 'effects'))),
    Package('lugaru-data', '1.2-6', 'val', (
        ('*/Alarm.ogg', LEFT_OUT), ('*/Skid.ogg', LEFT_OUT), ('*/Music*.ogg', 'music'),
        ('*/Bark*.ogg', 'animals'), ('*/Growl*.ogg', 'animals'), ('*/Hawk.ogg', 'animals'),
        ('*/Rabbit*.ogg', 'animals'), ('*/Snarl*.ogg', 'animals'),
        ('*/DesertAmbient.ogg', 'ambience'), ('*/Wind.ogg', 'ambience'), ('*.ogg', 'effects'))),
    Package('unknown-horizons', '2019.1-6', 'val', (
        ('*/ships_bell.ogg', LEFT_OUT), ('*/chapel.ogg', LEFT_OUT), ('*/music/*.ogg', 'music'),
        ('*/voice/*.ogg', 'voices'), ('*/sheepfield.ogg', 'animals'), ('*.ogg', 'ambience'))),
    Package('lomiri-sounds', '22.02-1', 'val', (('*/ringtones/*.ogg', 'music'),
                                                ('*.ogg', 'effects'))),
    Package('hedgewars-data', '1.0.2-6', 'val', (
        ('*/Music/*.ogg', 'music'), ('*/Sounds/voices/*.ogg', 'voices'),
        ('*/explosion*.ogg', LEFT_OUT), ('*/TARDIS.ogg', LEFT_OUT), ('*.ogg', 'effects'))),
    Package('lincity-ng-data', '2.9~git20150314-5', 'test', (
        ('*/FireStation3.wav', 'siren'), ('*/Health3.wav', 'siren'), ('*/Health4.wav', 'siren'),
        # Something soft on two tones, far away.
        ('*/FireStation1.wav', LEFT_OUT), ('*/FireStation2.wav', 'horn'),
        ('*/TraficLow3.wav', 'horn'), ('*/RailTrain[12].wav', 'bell'),
        ('*/Harbor[12].wav', LEFT_OUT), ('*/Raze*.wav', LEFT_OUT),
        ('*/RocketExplosion1.wav', LEFT_OUT), ('*/Trafic*.wav', 'traffic'),
        ('*/music/*.ogg', 'music'), ('*/Farm*.wav', 'animals'),
        ('*/OrganicFarm*.wav', 'animals'), ('*/Green*.wav', 'animals'),
        ('*/Parkland*.wav', 'animals'), ('*/Harbor3.wav', 'animals'),
        ('*/School*.wav', 'ambience'), ('*/University*.wav', 'ambience'),
        ('*/Shanty*.wav', 'ambience'), ('*/Sports*.wav', 'ambience'),
        ('*/Market*.wav', 'ambience'), ('*/Residential*.wav', 'ambience'),
        ('*/Commune*.wav', 'ambience'), ('*/Water*.wav', 'ambience'),
        ('*/Health*.wav', 'ambience'), ('*/Fire*.wav', 'ambience'), ('*.wav', 'machines'))),
    Package('openttd-opensfx', '1.0.3-2', 'test', (
        ('*#Modern car horn', 'horn'), ('*#Truck/old bus start, pull away with horn', 'horn'),
        ('*#Level crossing', 'bell'), ('*#Crash', 'crash'), ('*#Big crash', 'crash'),
        ('*#Plane wheels touching ground', 'screech'), ('*horn*', LEFT_OUT),
        ('*#Explosion', LEFT_OUT), ('*Whistle*', LEFT_OUT), ('*departure*', LEFT_OUT),
        ('*tunnel*', LEFT_OUT), ('*#Unused*', LEFT_OUT), ('*#Toyland*', 'effects'),
        ('*bus start*', 'traffic'), ('*#Sheep', 'animals'), ('*#Cow', 'animals'),
        ('*#Horse', 'animals'), ('*#Tropical*', 'animals'), ('*#Good Year', 'music'),
        ('*#Bad Year', 'music'), ('*#Applause', 'voices'), ('*#Oooh*', 'voices'),
        ('*wind', 'ambience'), ('*#Wind', 'ambience'), ('*.cat#*', 'machines'))),
    Package('scratch', '1.4.0.6~dfsg1-6.1', 'test', (
        ('*/Animal/*', 'animals'), ('*/Vocals/*', 'voices'), ('*/Human/*', 'voices'),
        ('*/Music Loops/*', 'music'), ('*/Instruments/*', 'music'), ('*/Percussion/*', 'music'),
        ('*/Electronic/Screech.wav', LEFT_OUT), ('*/Electronic/Whoop.wav', LEFT_OUT),
        ('*/BellToll.wav', LEFT_OUT), ('*/CarPassing.wav', 'traffic'),
        ('*/MotorcyclePassing.wav', 'traffic'), ('*/Sounds/*', 'effects'))),
    Package('asterisk-core-sounds-fr-wav', '1.6.1-1', 'test', (('*.wav', 'voices'),)),
    Package('supertuxkart-data', '1.4+dfsg-2', 'test', (
        ('*/horn.ogg', 'horn'), ('*/skid.ogg', 'screech'), ('*/sfx/crash*.ogg', 'crash'),
        ('*xplo*.ogg', LEFT_OUT), ('*/steamLocomotive.ogg', LEFT_OUT), ('*/music/*', 'music'),
        ('*/Gran_Paradiso*', 'music'), ('*/Battle_Theme*', 'music'), ('*/hot.ogg', 'music'),
        ('*/beneath_the_rabbit_hole.ogg', 'music'), ('*speech*', 'voices'),
        ('*/sheep.ogg', 'animals'), ('*/cow.ogg', 'animals'), ('*birds*.ogg', 'animals'),
        ('*/engine_*.ogg', 'machines'), ('*/car_*.ogg', 'machines'),
        ('*engine*.ogg', 'machines'), ('*/machine_sound.ogg', 'machines'),
        ('*_loop*.ogg', 'ambience'), ('*/rain.ogg', 'ambience'), ('*/thunder.ogg', 'ambience'),
        ('*restaurant.ogg', 'ambience'), ('*airport_pa.ogg', 'voices'), ('*.ogg', 'effects'))),
    Package('frozen-bubble-data', '2.212-11', 'test', (
        ('*zik*.ogg', 'music'), ('*/applause.ogg', 'voices'), ('*.ogg', 'effects'))),
    Package('extremetuxracer-data', '0.8.2-1', 'test', (
        ('*/music/*', 'music'), ('*/tree_hit.wav', LEFT_OUT), ('*.wav', 'effects'))),
    Package('sonic-pi-samples', '3.2.2~repack-8', 'test', (
        ('*bell*', LEFT_OUT), ('*.flac', 'music'))),
    Package('trackballs-data', '1.3.4-1', 'test', (
        ('*/music/*', 'music'), ('*crash.wav', LEFT_OUT), ('*.wav', 'effects'))),
    Package('minetest-data', '5.6.1+dfsg+~1.9.0mt8+dfsg-2', 'test', (
        ('*/tnt/*', LEFT_OUT), ('*/env_sounds/*', 'ambience'), ('*/fire/*', 'ambience'),
        ('*.ogg', 'effects'))),
    Package('oxygen-sounds', '4:5.27.5-2', 'test', (('*.ogg', 'effects'),)),
    Package('warmux-data', '1:11.04.1+repack2-4', 'test', (
        ('*/music/*', 'music'), ('*xplosion*', LEFT_OUT), ('*_exp.ogg', LEFT_OUT),
        ('*/voices/*', 'voices'), ('*_music.ogg', 'music'), ('*.ogg', 'effects'))),
)
