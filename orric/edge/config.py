"""The daemon's configuration: TOML, with single keys overridden by the environment."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from orric.allocators import REFERENCES, check_name
from orric.exceptions import EdgeError, OrricError, nearest
from orric.profile import Profile
from orric.retraining.acceptance import CANARY_SLOTS, DETECTED_LOSS, HELD_OUT, MARGIN, POWER
from orric.retraining.evidence import fewest_compared, fewest_trained
from orric.section import Flag, FolderName, Name, Positive, Section, read_text, readable
from orric.selection.sampling import Sampling

PREFIX = "ORRIC_EDGE_"
TOKEN = "ORRIC_TOKEN"
# Where systemd lays what LoadCredential names, and the name in the unit.
CREDENTIALS, CREDENTIAL = "CREDENTIALS_DIRECTORY", "token"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

# Addresses that this machine's own programs alone reach.
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Part = Annotated[float, Field(strict=True, ge=0, le=1)]
Seconds = Annotated[float, Field(strict=True, ge=0.05, le=3600)]


class Server(Section):
    """How inference is served.

    Attributes:
        host: Address to listen on; by default this machine's own programs alone reach it.
        port: 0 takes a free one.
        token_file: File of the token that changes of state need; the environment variable ORRIC_TOKEN and systemd's
            credential "token" go before it.
        inference_token: Whether inference needs the token, too.
        most_batch: Images of a batch at most.
        longest_wait_s: How long a request may wait for others to share its batch.
        queue_images: Images that may wait; requests beyond are answered with 503.
        most_images: Images of a request at most.
        body_bytes: Bytes of a request's body at most, after decompression.
        compression_ratio: How often its size a compressed body may have; up to a MiB any ratio will do.
        buffer_bytes: Bytes of bodies at most that are held for all requests together, or of one body if that is more.
        head_bytes: Bytes of a request's head at most.
        headers: Header lines of a request at most.
        head_s: How long a request's head may take to come.
        body_s: How long its body may.
        answer_s: How long a client may take to read its answer.
        idle_s: How long a connection may say nothing between two requests.
        connections: Connections at most, or as many as the limit of open files allows. Beyond, that of whoever holds
            most which was of use longest ago is closed for a new one.
        connections_per_address: Of one address, trusted proxies excepted.
        hosts: Names beside the machine's own that requests may be for; "*" stands for any.
        health_port: Where a listener of its own answers whoever asks for health and metrics, and nothing else; left
            out, the port after `port`, or a free one where that is 0; 0 takes a free one, -1 opens none.
        deadline_s: Answers later than this count as late, None for none; a stream may have its own.
        drain_s: How long a shutdown waits for requests under way.
        provider: Where the student runs; one that is absent is named in the log, and the processor takes its place.
        threads: Threads of ONNX Runtime.
        trusted_proxies: Addresses or networks of proxies, whose `X-Forwarded-For` is believed.
        client_header: Header in which such a proxy names the client, None for none. The proxy must set it, or take it
            out of every request: what a client itself sends in it would be believed.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    host: Name = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=0, le=65535)] = 8000
    token_file: Name | None = None
    inference_token: Flag = False
    most_batch: Annotated[int, Field(strict=True, ge=1, le=1024)] = 64
    longest_wait_s: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.001
    queue_images: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 2048
    most_images: Annotated[int, Field(strict=True, ge=1, le=4096)] = 256
    body_bytes: Annotated[int, Field(strict=True, ge=1024, le=1 << 30)] = 8 << 20
    compression_ratio: Annotated[float, Field(strict=True, ge=1, le=1100)] = 100.0
    buffer_bytes: Annotated[int, Field(strict=True, ge=1 << 20, le=1 << 36)] = 32 << 20
    head_bytes: Annotated[int, Field(strict=True, ge=1024, le=1 << 20)] = 16 << 10
    headers: Annotated[int, Field(strict=True, ge=8, le=1000)] = 64
    head_s: Seconds = 10.0
    body_s: Seconds = 30.0
    answer_s: Seconds = 30.0
    idle_s: Seconds = 60.0
    connections: Annotated[int, Field(strict=True, ge=16, le=100_000)] = 1000
    connections_per_address: Annotated[int, Field(strict=True, ge=4, le=100_000)] = 256
    hosts: tuple[Name, ...] = ()
    health_port: Annotated[int, Field(strict=True, ge=-1, le=65535)] | None = None
    deadline_s: Positive | None = None
    drain_s: Annotated[float, Field(strict=True, ge=0, le=600)] = 10.0
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    trusted_proxies: tuple[Name, ...] = ()
    client_header: Annotated[str, Field(strict=True, pattern="^[A-Za-z][A-Za-z0-9-]{0,63}$")] | None = None

    @field_validator("hosts")
    @classmethod
    def _host_names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if one != "*" and not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", one):
                raise ValueError(f'found {one!r}; give names without scheme, port and path, as edge.example, or "*"')
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            try:
                ip_network(one, strict=False)
            except ValueError:
                raise ValueError(f"found {one!r}; give addresses or networks, as 10.0.0.0/8") from None
        return given


class Budget(Section):
    """How much compute a slot has.

    Attributes:
        macs_per_s: What the whole device does; left out, what the first stream's profile measured, its `[device]`.
        probe: "fixed" takes `fraction` of it; "processor" what others leave of the cores and of the cgroup's quota;
            "nvidia" what others leave of a GPU; "command" what a command prints, a part from 0 to 1.
        fraction: Of "fixed".
        gpu: Index, of "nvidia".
        command: Program and arguments, of "command".
        timeout_s: After which the command is given up.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    macs_per_s: Positive | None = None
    probe: Literal["fixed", "processor", "nvidia", "command"] = "fixed"
    fraction: Part = 1.0
    gpu: Annotated[int, Field(strict=True, ge=0, le=255)] = 0
    command: tuple[Name, ...] = ()
    timeout_s: Annotated[float, Field(strict=True, gt=0, le=60)] = 5.0

    @model_validator(mode="after")
    def _command_is_given(self) -> Budget:
        if (self.probe == "command") != bool(self.command):
            found = (
                "command is missing" if self.probe == "command" else f"probe is {self.probe!r} and there is a command"
            )
            raise ValueError(f'{found}; give command if and only if probe = "command"')
        return self


class Retraining(Section):
    """How the student is retrained beside its serving.

    Attributes:
        enabled: Whether it is; false serves the student as it is, which may then be of any kind, INT8 among them.
        held_out: Part of the labelled samples that is kept from training, to compare the student before and after.
        margin: By which part of them agreement with the teacher may be lower after than before, beyond chance.
        deadline: Part of a slot within which a retraining must end.
        memory_bytes: What the process may allocate at most.
        nice: How far it steps back behind serving, 0 to 19.
        idle: Whether it works in the gaps alone, while nobody else wants the processor (SCHED_IDLE).
        cpu_weight: What it is worth beside serving, which is worth 100, in a control group of its own; left out, both
            are in one group. Where that cannot be made, the log says so.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    enabled: Flag = True
    held_out: Annotated[float, Field(strict=True, ge=0, le=0.5)] = HELD_OUT
    margin: Part = MARGIN
    deadline: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.9
    memory_bytes: Annotated[int, Field(strict=True, ge=1 << 28)] = 4 << 30
    nice: Annotated[int, Field(strict=True, ge=0, le=19)] = 10
    idle: Flag = False
    cpu_weight: Annotated[int, Field(strict=True, ge=1, le=10000)] | None = None


class StoreKeys(Section):
    """Where models and the journal are kept.

    Attributes:
        folder: Relative to the configuration's file.
        versions: How many versions are kept.
        canary_slots: Slots that a new version serves on probation at least.
        canary_margin: By which part of the samples labelled meanwhile it may agree less with the teacher than the last
            version that proved itself, beyond chance, before it is rolled back.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    folder: Name
    versions: Annotated[int, Field(strict=True, ge=2, le=1000)] = 5
    canary_slots: Annotated[int, Field(strict=True, ge=0, le=1000)] = CANARY_SLOTS
    canary_margin: Part = MARGIN


class Samples(Section):
    """What is kept of uploaded images, in memory alone.

    Attributes:
        most: Images of a slot at most; of more a fair sample is kept.
        retention_s: How long an image, or an answer that a label may come for, is kept at most.
        learn_from: "authenticated" learns from requests with the token alone, "all" from everybody's. Left out, it is
            "all" where this machine's own programs alone reach the server, and "authenticated" elsewhere.
        source_part: Part of a retraining's samples that one source may fill at most where there are others; 1 lets it
            fill what they leave, since every source has an even part before any has more.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    most: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 4096
    retention_s: Positive = 600.0
    learn_from: Literal["authenticated", "all"] | None = None
    source_part: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0


class Evidence(Section):
    """What learning needs, and what a new student must show before it serves.

    Attributes:
        anchors: Trusted images with labels that clients cannot write: a folder with a folder for each class, or an .npz
            file, relative to the configuration's file. Left out, those of the profile.
        replay: Anchors that the student is trained on again for every sample.
        anchor_loss: By which part of the anchors a new student may be worse than the given one, beyond chance.
        detected_loss: Loss on held-out samples that a comparison must find; with `power` it says how many are needed.
        power: With which probability it must.
        statistics_error: Standard error of batch-norm statistics, in deviations of a channel, beyond which nothing is
            learnt; it says how many samples are needed.
        set_aside: Part of honest samples, under the severest drift that is known, that may be set aside as outliers.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    anchors: Name | None = None
    replay: Part = 0.5
    anchor_loss: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.1
    detected_loss: Annotated[float, Field(strict=True, ge=0.01, lt=1)] = DETECTED_LOSS
    power: Annotated[float, Field(strict=True, ge=0.5, lt=1)] = POWER
    statistics_error: Annotated[float, Field(strict=True, gt=0.01, le=1)] = 0.25
    set_aside: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.01

    @property
    def fewest_trained(self) -> int:
        """Samples without which nothing is learnt."""
        return fewest_trained(self.statistics_error)


class Arrivals(Section):
    """How images come within a slot: allocators reckon by it how long they wait.

    Attributes:
        kind: As of a scenario's stream: "poisson", "deterministic" (evenly spaced), "upload" (all at once), "bursty"
            (of two rates), "gamma" (independent gaps) or "hawkes" (self-exciting).
        ratio: Of "bursty": rate within bursts divided by the rate between them.
        burst_s: Of "bursty": mean length of a burst.
        calm_s: Of "bursty": mean time between two.
        variation: Of "gamma": coefficient of variation of the gaps.
        branching: Of "hawkes": how many further ones each excites on average.
        decay_s: Of "hawkes": after how long on average.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    kind: Literal["poisson", "deterministic", "upload", "bursty", "gamma", "hawkes"] = "poisson"
    ratio: Annotated[float, Field(strict=True, ge=1)] = 1.0
    burst_s: Positive = 1.0
    calm_s: Positive = 1.0
    variation: Positive = 1.0
    branching: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    decay_s: Positive = 1.0


class StreamKeys(Section):
    """A stream that is decided for.

    Attributes:
        name: For records; the model's name of inference.
        profile: Relative to the configuration's file.
        requests: Fewest and most requests of a slot that are expected.
        deadline_s: Answers later than this count as late; left out, `server.deadline_s` holds.
        arrivals: How its images come.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    name: FolderName = "stream-1"
    profile: Name
    requests: tuple[Positive, Positive]
    deadline_s: Positive | None = None
    arrivals: Arrivals = Arrivals()

    @field_validator("requests")
    @classmethod
    def _ordered(cls, span: tuple[float, float]) -> tuple[float, float]:
        if span[0] > span[1]:
            raise ValueError(f"found {span[0]:g} to {span[1]:g}; give the smaller number first")
        return span


class EdgeConfig(Section):
    """What `orric serve` reads.

    Attributes:
        mode: "live"; "shadow" decides and writes down and changes nothing; "decisions" serves no model and decides for
            those who ask.
        allocator: Who decides.
        shadow: Allocators whose decisions are shown beside.
        slot_s: Length of a slot in seconds.
        horizon_slots: Slots of an episode; the guarantee holds for each.
        forecast: Of the requests of a slot: those of the last, or an exponentially weighted mean.
        seed: Of allocators that draw, and of samples.
        student_sha256: If given, the student's file must have it; likewise the teacher's.
    """

    error: ClassVar[type[OrricError]] = EdgeError
    mode: Literal["live", "shadow", "decisions"] = "live"
    allocator: Name = "orric"
    shadow: tuple[Name, ...] = ("inference-only", "inference-greedy")
    slot_s: Positive = 60.0
    horizon_slots: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1000
    forecast: Literal["last", "ewma"] = "ewma"
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 1
    student_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    teacher_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    stream: tuple[StreamKeys, ...] = Field(min_length=1)
    budget: Budget
    store: StoreKeys
    server: Server = Server()
    retraining: Retraining = Retraining()
    samples: Samples = Samples()
    evidence: Evidence = Evidence()
    _folder: Path = PrivateAttr(default=Path())
    _profiles: tuple[Profile, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _consistent(self) -> EdgeConfig:
        for name in (self.allocator, *self.shadow):
            if name in REFERENCES:
                raise ValueError(f"{name!r} is a reference line, which decides nothing; name an allocator")
            check_name(name)
        if len(self.stream) > 1 and self.mode != "decisions":
            raise ValueError(f'{len(self.stream)} streams; a server has one, or set mode = "decisions"')
        for key, margin in (
            ("retraining.margin", self.retraining.margin),
            ("store.canary_margin", self.store.canary_margin),
        ):
            if self.retraining.enabled and margin >= self.evidence.detected_loss:
                found = f"{key} is {margin:g} and evidence.detected_loss {self.evidence.detected_loss:g}"
                raise ValueError(f"{found}; a loss that is allowed is not found: give the smaller one first")
        names = [one.name for one in self.stream]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two streams are called {twice!r}; name each one once")
        return self

    @classmethod
    def load(cls, path: str | Path, environment: Mapping[str, str] = os.environ) -> Self:
        """Read and check a configuration and the profiles that it names.

        Args:
            path: The file.
            environment: ORRIC_EDGE_SERVER__PORT=8001 sets `port` of `[server]`, and so on.

        Raises:
            OrricError: With file, line, key, what was found and what is allowed.
        """
        text = read_text(path, EdgeError)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise EdgeError(str(path), f"is not valid TOML: {error}", "mend the line named") from None
        for name, value in sorted(environment.items()):
            if name.startswith(PREFIX):
                _override(table, name, value)
        found = cls.parse(table, path, text)
        found._folder = Path(path).resolve().parent
        found._profiles = tuple(Profile.load(found._folder / one.profile) for one in found.stream)
        if found.budget.macs_per_s is None and found._profiles[0].device is None:
            remedy = "give what the device does in a second, or a profile that orric calibrate measured with latencies"
            raise EdgeError(
                f"{path}: budget.macs_per_s", f"is missing, and {found.stream[0].profile} has no [device]", remedy
            )
        if found.mode != "decisions":
            for one, profile in zip(found.stream, found._profiles, strict=True):
                if profile.models is None:
                    remedy = 'use a profile made by orric calibrate, or set mode = "decisions"'
                    raise EdgeError(f"{path}: stream.profile", f"{one.profile} names no [models]", remedy)
                anchors = found.anchors
                if found.retraining.enabled and anchors is not None and not anchors.exists():
                    remedy = "give another path, or take the key out to learn without anchors"
                    where = "evidence.anchors" if found.evidence.anchors else f"{one.profile}: models.anchors"
                    raise EdgeError(f"{path}: {where}", f"{anchors} does not exist", remedy)
                for figures in profile.selector.values():
                    Sampling.by(0.0, figures)  # which refuses unknown selectors
        return found

    @property
    def macs_per_s(self) -> float:
        """What the whole device does: as configured, or else as the profile measured it."""
        given, device = self.budget.macs_per_s, self._profiles[0].device
        if given is None:
            assert device is not None, "loading checked this"
            return device.macs_per_s
        return given

    def deadline_s(self, stream: StreamKeys) -> float | None:
        """Return after how many seconds answers of a stream are late, None for never."""
        return self.server.deadline_s if stream.deadline_s is None else stream.deadline_s

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profile of every stream."""
        return self._profiles

    @property
    def learns_from_everybody(self) -> bool:
        """Whether images of senders without the token are learnt from."""
        if self.samples.learn_from is None:
            return self.server.host in LOOPBACK
        return self.samples.learn_from == "all"

    @property
    def fewest_compared(self) -> int:
        """Samples on which two students must be compared, so that a loss of `evidence.detected_loss` is found."""
        evidence, margin = self.evidence, max(self.retraining.margin, self.store.canary_margin)
        return fewest_compared(evidence.detected_loss, evidence.power, margin)

    def doubts(self, token: str | None) -> list[str]:
        """Return what an operator should know before the daemon learns from others' images.

        Args:
            token: See `token`.
        """
        if self.mode != "live" or not self.retraining.enabled:
            return []
        found = []
        if self.anchors is None:
            found.append("there is no anchor set: new students are judged by uploads alone; see evidence.anchors")
        if self.learns_from_everybody:
            if self.server.host not in LOOPBACK:
                found.append("whoever reaches the address teaches the student; see samples.learn_from")
        elif token is None:
            found.append("only requests with the token teach, and there is no token: nothing will be learnt")
        return found

    @property
    def anchors(self) -> Path | None:
        """Where the anchor set lies: the operator's, or else the profile's; None without."""
        if self.evidence.anchors is not None:
            return self._folder / self.evidence.anchors
        return self._profiles[0].anchors

    @property
    def store_folder(self) -> Path:
        """Where models and the journal are kept."""
        return self._folder / self.store.folder

    def token(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the token that changes of state need, None where there is none and nothing may be changed.

        The environment's goes before systemd's credential, and that before the configuration's file.

        Raises:
            EdgeError: The file cannot be read, or the token is too short to be one.
        """
        found = environment.get(TOKEN)
        where = f"environment variable {TOKEN}"
        if found is None and environment.get(CREDENTIALS):
            where = f"credential {CREDENTIAL!r}"
            credential = Path(environment[CREDENTIALS], CREDENTIAL)
            with readable(credential, EdgeError):
                found = read_text(credential, EdgeError) if credential.exists() else None
        if found is None and self.server.token_file is not None:
            where = f"server.token_file {self.server.token_file}"
            found = read_text(self._folder / self.server.token_file, EdgeError)
        if found is None:
            return None
        found = found.strip()
        if len(found) < 16:
            raise EdgeError(where, f"the token has {len(found)} characters", "give 16 at least")
        if not all("!" <= character <= "~" for character in found):
            raise EdgeError(where, "the token has characters that a header cannot carry", "use ASCII without spaces")
        return found


def _override(table: dict[str, Any], name: str, value: str) -> None:
    """Set a key by an environment variable."""
    *path, last = name.removeprefix(PREFIX).lower().split("__")
    owner: Any = table
    for part in path:
        owner = owner.setdefault(part, {})
        if not isinstance(owner, dict):
            raise EdgeError(f"environment variable {name}", f"{part!r} is no table", nearest(part, table))
    try:
        owner[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        owner[last] = value  # a plain word
