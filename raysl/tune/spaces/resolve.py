"""From suggested parameters to the run config they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysl.config import build, leaves, merge, nearest, nested
from raysl.errors import InputError
from raysl.methods import own
from raysl.train.config import RunConfig
from raysl.tune.judging.rungs import judged_epochs
from raysl.tune.records.entry import Entry
from raysl.tune.spaces.domains import Domain, Scalar, condition_of
from raysl.tune.spaces.expression import Expression
from raysl.tune.spaces.space import ProxyConfig, SpaceConfig

Params = Mapping[str, Scalar]


class Space:
    """A search space with its recipes read: turns parameters into run configs and says which cannot be.

    Args:
        config: the search space.
        checked: whether its `mistakes` are refused.

    Raises:
        InputError: a recipe is missing or wrong, a searched or tied key does not exist, a domain's edge is
            outside the field's bounds, or an expression names no key. One line each.
    """

    def __init__(self, config: SpaceConfig, *, checked: bool = True) -> None:
        self.config = config
        spread, _ = merge([nested(key, value) for key, value in config.overrides.items()])
        budget = {"train": {"epochs": config.epochs}} if config.epochs is not None else {}
        self._values, self._origins = merge([*config.base, spread, budget])
        self.own_methods: dict[str, own.Source] = {}
        """The methods in files of the user's own that a trial may have, by reference."""
        self.base = self._build(self._values, self._origins)
        """What a whole trial starts from."""
        self._forms = [*(self._cheaper(proxy) for proxy in config.proxy), {}]
        self.variables = {
            key for key in config.search if "." not in key and key not in RunConfig.model_fields
        }
        """Searched names that are no keys of a run's config; ties use them."""
        self._conditional = {key for key, domain in config.search.items() if domain.when}
        self._ties = {key: Expression(text) for key, text in config.tied.items()}
        self._constraints = [Expression(text) for text in config.constraints]
        if checked and (mistakes := self.mistakes()):
            raise InputError("\n".join(mistakes))

    @property
    def epochs(self) -> int:
        """Epochs of a searched trial that is not stopped."""
        return self.epochs_of(0)

    @property
    def last_fidelity(self) -> int:
        """The number of the whole trial's form: how many proxies come before it."""
        return len(self._forms) - 1

    def epochs_of(self, fidelity: int) -> int:
        """Epochs of a trial in one of its forms."""
        epochs = self._forms[fidelity].get("train", {}).get("epochs")
        return self.base.train.epochs if epochs is None else int(epochs)

    def base_of(self, fidelity: int) -> RunConfig:
        """Return what trials in one of their forms start from; `base` for the last one."""
        values, origins = merge([self._values, self._forms[fidelity]])
        return self._timed(self._build(values, self._origins | origins))

    def is_active(self, domain: Domain, params: Params) -> bool:
        """Tell whether a key is searched, given the parameters before it."""
        return all(
            self._value(key, params) in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in domain.when.items()
        )

    def prior(self, number: int) -> dict[str, Scalar]:
        """Return the parameters of a prior.

        Raises:
            InputError: the recipe has no value where the prior leaves one out, or a value is not in its
                domain, or they cannot be a trial.
        """
        given, params = self.config.priors[number], dict[str, Scalar]()
        for key, domain in self.config.search.items():
            if not self.is_active(domain, params):
                if key in given:
                    raise InputError(
                        f"priors[{number}]: {key} is given, but searched only when {condition_of(domain)}; "
                        "drop it there, or let its condition hold"
                    )
                continue
            if key not in given and key in self.variables:
                raise InputError(f"priors[{number}] lacks {key}, for which the recipe has no value; give one")
            value = given[key] if key in given else self._value(key, {})
            params[key] = domain.typed(value)
            if not domain.contains(params[key]):
                where = "" if key in given else " in the recipe"
                raise InputError(
                    f"priors[{number}]: {key} = {value!r}{where} is not in its domain, {domain.describe()}; "
                    "widen the domain, give another value, or drop the prior (priors: [])"
                )
        if (refusal := self.refusal(params)) is not None:
            raise InputError(f"priors[{number}] {refusal}; give other values, or drop the prior (priors: [])")
        return params

    def run_config(self, params: Params, *, seed: int = 0, fidelity: int | None = None) -> RunConfig:
        """Return the config of a trial.

        Args:
            params: values of the active keys.
            seed: added to the recipe's seed.
            fidelity: the trial's form; the whole trial when not given.

        Raises:
            InputError: the config models refuse these values, or a tie cannot be computed.
        """
        form = self._forms[self.last_fidelity if fidelity is None else fidelity]
        own_seed = {"train": {"seed": self.base.train.seed + seed}} if seed else {}
        searched = [nested(key, value) for key, value in params.items() if key not in self.variables]
        values, origins = merge([self._values, form, own_seed, *searched])
        names = dict.fromkeys(params, "search")
        config = self._build(values, self._named(origins, names))
        if not self._ties:
            return self._timed(config)
        known = dict(leaves(config.to_dict())) | dict(params)
        ties = {key: tie for key, tie in self._ties.items() if self._applies(tie, known)}
        for key, tie in ties.items():
            known[key] = tie.value(known, f"tied.{key}")
            names[key] = f"tied ({tie.text})"
        values, more = merge([values, *(nested(key, known[key]) for key in ties)])
        return self._timed(self._build(values, self._named(origins | more, names)))

    def trial_config(self, entry: Entry) -> RunConfig:
        """Return the config of a trial on record."""
        return self.run_config(entry.params, seed=entry.role.seed, fidelity=entry.role.fidelity)

    def refusal(self, params: Params) -> str | None:
        """Return why these parameters cannot be a trial, or None where they can."""
        try:
            known = dict(leaves(self.run_config(params).to_dict())) | dict(params)
            broken = [
                constraint.text
                for constraint in self._constraints
                if self._applies(constraint, known) and not constraint.holds(known)
            ]
        except InputError as error:
            return str(error)
        return f"breaks {broken[0]!r}" if broken else None

    def _applies(self, expression: Expression, known: Mapping[str, Any]) -> bool:
        """Tell whether a trial has every key under a condition that a tie or constraint names."""
        return expression.names.isdisjoint(self._conditional - known.keys())

    def _build(self, values: dict[str, Any], origins: dict[str, str]) -> RunConfig:
        """Build a config in which a user's own method stays what it was when this space was read."""
        method = values.get("method")
        method = {"name": method} if isinstance(method, str) else method
        if isinstance(method, Mapping) and method.get("name") in self.own_methods:
            digest = method.get("source_sha256") or self.own_methods[method["name"]].sha256
            values = {**values, "method": {**method, "source_sha256": digest}}
        config = build(RunConfig, values, origins)
        if (source := own.source_of(config.method)) is not None:
            self.own_methods[source.reference] = source
        return config

    def _timed(self, config: RunConfig) -> RunConfig:
        """Have a schedule that cools down where trials are judged do so where this sweep's are."""
        if config.schedule.name != "wsd" or config.schedule.judged:
            return config
        ends = [self.epochs_of(fidelity) for fidelity in range(self.last_fidelity + 1)]
        judged = judged_epochs(self.config, self.base, ends)
        schedule = config.schedule.model_copy(update={"judged": judged})
        return config.model_copy(update={"schedule": schedule})

    def _named(self, origins: dict[str, str], names: dict[str, str]) -> dict[str, str]:
        """Return where each value comes from, for messages: the recipe, the search, or a tie."""
        known = self._origins | names | {key: where for key, where in origins.items() if key in names}
        return {key: where.replace("given values", names.get(key, "search")) for key, where in known.items()}

    def _cheaper(self, proxy: ProxyConfig) -> dict[str, Any]:
        """Return what a proxy changes.

        Raises:
            InputError: it is not cheaper.
        """
        whole = self.base.train.epochs
        if proxy.epochs is not None and proxy.epochs > whole:
            raise InputError(f"proxy.epochs = {proxy.epochs}: more than the {whole} epochs of a whole trial")
        if proxy.epochs == whole and proxy.subset is None and proxy.image_size is None:
            raise InputError(
                f"proxy.epochs = {whole}: as many as a whole trial has, so nothing makes this proxy cheaper"
            )
        changes: dict[str, Any] = {"schedule": {"horizon": self.base.horizon}}
        if proxy.epochs is not None:
            changes["train"] = {"epochs": proxy.epochs}
        if proxy.subset is not None:
            changes["data"] = {"subset": proxy.subset.to_dict()}
        if proxy.image_size is not None:
            changes.setdefault("data", {})["image_size"] = proxy.image_size
            if self.base.views.size is not None:
                changes["views"] = {"size": proxy.image_size}
        return changes

    def _value(self, key: str, params: Params) -> Any:
        return params[key] if key in params else dict(leaves(self.base.to_dict())).get(key)

    def _with_variables(self, params: Params) -> dict[str, Scalar]:
        """Add the low ends of the names that are no config keys, where they are searched."""
        search = self.config.search
        active = [name for name in sorted(self.variables) if self.is_active(search[name], params)]
        return {name: search[name].ends()[0] for name in active} | dict(params)

    def mistakes(self) -> dict[str, list[str]]:
        """Try every edge of every domain once, with the others left at the recipe's values.

        Returns:
            A line for each mistake, with what was tried.
        """
        mistakes: dict[tuple[str, str], str] = {}

        def note(key: str, error: InputError) -> None:
            for line in str(error).splitlines():
                # Both ends may break the same bound, which is one mistake.
                mistakes.setdefault((key, line.rpartition(": ")[2]), line)

        used = set[str]().union(*(one.names for one in [*self._ties.values(), *self._constraints]))
        for name in sorted(self.variables - used):
            known = set(dict(leaves(self.base.to_dict()))) | set(RunConfig.model_fields)
            note(name, InputError(f"search: {name}: unknown key, and no tie uses it; {nearest(name, known)}"))
        there = set(dict(leaves(self.base.to_dict())))
        for key, domain in self.config.search.items():
            strange = [other for other in domain.when if other not in there | self.config.search.keys()]
            if strange:
                told = f"search.{key}.when: no key {strange[0]!r}; {nearest(strange[0], there)}"
                note(key, InputError(told))
                continue
            # The keys that make this one active are set to the first value that does.
            needed = {
                other: wanted[0] if isinstance(wanted, list) else wanted
                for other, wanted in domain.when.items()
            }
            for end in domain.ends():
                try:
                    self.run_config(self._with_variables({**needed, key: end}))
                except InputError as error:
                    note(key, error)
        known_values = dict(leaves(self.base.to_dict())) | self._with_variables({})
        for constraint in self._constraints:
            try:
                if self._applies(constraint, known_values):
                    constraint.holds(known_values)
            except InputError as error:
                note(constraint.text, error)
        for fidelity in range(self.last_fidelity):
            try:
                self.base_of(fidelity)
            except InputError as error:
                note(f"proxy[{fidelity}]", error)
        # A tie that fails does so whatever is searched.
        lines: dict[str, list[str]] = {}
        for (key, _), line in mistakes.items():
            lines.setdefault(line, []).append(key)
        return lines
