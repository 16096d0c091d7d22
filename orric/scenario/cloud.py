"""A cloud that retrains in the edge server's place, at the end of a link."""

from __future__ import annotations

from orric.section import Amount, Positive, Section


class Cloud(Section):
    """Where retraining may be sent: samples go up, are labelled and trained on there, and new weights come down.

    Transfers of all streams queue up for the link, one after another in each direction. The cloud itself is never
    busy with others, and its energy is nobody's here.

    Attributes:
        uplink_bytes_per_s: Bandwidth towards the cloud.
        downlink_bytes_per_s: Bandwidth from it.
        delay_s: What every transfer takes besides, one way.
        macs_per_s: How fast it labels and trains, for each stream.
        sample_bytes: Size of a sample sent up.
        weights_bytes: Size of the weights that come down.
    """

    uplink_bytes_per_s: Positive
    downlink_bytes_per_s: Positive
    delay_s: Amount = 0.0
    macs_per_s: Positive
    sample_bytes: Positive
    weights_bytes: Positive
