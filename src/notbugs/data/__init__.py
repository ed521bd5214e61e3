"""Images in: every reader returns the same thing, a `Data`."""

from notbugs.data.appearance import Appearance as Appearance
from notbugs.data.augment import Augmentation as Augmentation
from notbugs.data.built_in import Planted as Planted
from notbugs.data.built_in import planted as planted
from notbugs.data.corruptions import CORRUPTIONS as CORRUPTIONS
from notbugs.data.corruptions import corrupt as corrupt
from notbugs.data.images import Data as Data
from notbugs.data.images import Images as Images
from notbugs.data.images import Mapped as Mapped
from notbugs.data.images import round_to_8_bits as round_to_8_bits
from notbugs.data.jpeg import JPEG as JPEG
from notbugs.data.sources import KINDS as KINDS
from notbugs.data.sources import load as load
from notbugs.frequency import Band as Band
from notbugs.frequency import high_pass as high_pass
from notbugs.frequency import low_pass as low_pass
