# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pictures of an embedded model: their size, and how it cuts them into visual tokens."""

from __future__ import annotations

from typing import NamedTuple

from vts_ros.errors import VtsError

#: Least size, for which scenes are accepted, and the side of a cell with dense targets at it.
_WIDTH, _HEIGHT, _CELL_PX = 224, 128, 16


class PictureSizeError(VtsError, ValueError):
    """Pictures cannot be of this size, or not be cut like this."""


class ModelPicture(NamedTuple):
    """
    Pictures of one size; rendering, shards, checkpoints and training all read it here.

    Attributes
    ----------
    width, height
        In pixels; the same multiple of 224 and 128, so that all sizes show the same.
    patch_px
        Side of a patch of the vision encoder.
    merge
        Side of a visual token in patches.

    """

    width: int = _WIDTH
    height: int = _HEIGHT
    patch_px: int = 8
    merge: int = 4

    @classmethod
    def of(cls, size: str, patch_px: int = 0, merge: int = 4) -> ModelPicture:
        """
        Return the pictures of a size such as ``448x256``.

        Parameters
        ----------
        patch_px
            0 for as many patches as at 224x128: their side grows with the picture.

        Raises
        ------
        PictureSizeError
            If the size is no multiple of 224x128, or tokens of this side do not fill it.

        """
        width, _, height = size.partition('x')
        factor = int(width) // _WIDTH if width.isdecimal() else 0
        if not factor or f'{factor * _WIDTH}x{factor * _HEIGHT}' != size:
            raise PictureSizeError(f'a picture size is a multiple of {_WIDTH}x{_HEIGHT}, such as '
                                   f'{2 * _WIDTH}x{2 * _HEIGHT}, not {size}')
        picture = cls(int(width), int(height), patch_px or cls().patch_px * factor, merge)
        if int(width) % picture.token_px or int(height) % picture.token_px \
                or picture.token_px % picture.cell_px:
            raise PictureSizeError(
                f'{merge} x {merge} patches of {picture.patch_px} px are tokens of '
                f'{picture.token_px} px: these do not fill {size}, or cut its cells of '
                f'{picture.cell_px} px')
        return picture

    def __str__(self) -> str:
        """Return the size, as :meth:`of` reads it."""
        return f'{self.width}x{self.height}'

    @property
    def factor(self) -> int:
        """Return how many times as large as the least size it is, on each side."""
        return self.width // _WIDTH

    @property
    def camera(self) -> tuple[int, int]:
        """Return width and height of the camera pictures that are scaled down to this size."""
        return 160 * (2 + self.factor), 90 * (2 + self.factor)

    @property
    def cell_px(self) -> int:
        """Return the side of a cell with dense targets."""
        return _CELL_PX * self.factor

    @property
    def cells(self) -> tuple[int, int]:
        """Return rows and columns of cells: as many at every size."""
        return self.height // self.cell_px, self.width // self.cell_px

    @property
    def token_px(self) -> int:
        """Return the side of a visual token."""
        return self.patch_px * self.merge

    @property
    def tokens(self) -> tuple[int, int]:
        """Return rows and columns of visual tokens."""
        return self.height // self.token_px, self.width // self.token_px

    @property
    def token_cells(self) -> int:
        """Return the side of a visual token in cells."""
        return self.token_px // self.cell_px


#: Pictures of the shipped model.
SHIPPED = ModelPicture()
