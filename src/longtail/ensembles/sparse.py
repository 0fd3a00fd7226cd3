"""Sparse ensemble: the scores of a group come from its own expert alone."""

from collections.abc import Sequence

from torch import Tensor

from longtail.ensembles.alignment import Activation, Background, GroupLayout
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities


class SparseEnsemble(Ensemble):
    """Logits of group j are those of stage j; the background's are the mean of all stages.

    A group with several stages has the mean of their logits. With ``align`` identical stages do not give back the
    stage, since alignment changes its logits. Permuting the stages is permuting the groups.

    Args:
        groups: Groups of the foreground classes.
        expert_groups: Group of every stage; None where stage j is the expert of group j.
        align: Align the groups of every stage first.
        background: See ``alignment.Background``; with ``last_group`` it comes from the last stage.
        keep_level: See ``alignment.GroupLayout``: for losses with ``absolute_logits``.
        activation: How the loss reads logits; None for softmax.

    Source: MEC Eq. 4; SPEC §2.16.
    """

    def __init__(
        self,
        groups: CategoryGroups,
        *,
        expert_groups: Sequence[int] | None = None,
        align: bool = True,
        background: Background = "relative",
        keep_level: bool = False,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.layout = GroupLayout(groups, background, keep_level=keep_level)
        self.expert_groups = tuple(range(groups.num_groups) if expert_groups is None else expert_groups)
        self.align = align
        self.activation = activation

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read.

        Raises:
            ConfigError: There are more or fewer stages than experts.
        """
        if len(logits) != len(self.expert_groups):
            raise ConfigError(
                f"the sparse ensemble has {len(self.expert_groups)} experts for {len(logits)} stages",
                fix="give as many groups as stages, say which stage has which group, or use the dynamic ensemble",
            )
        parts, rest = self.layout.split(logits)
        if self.align:
            parts, rest = self.layout.align(parts, rest)
        # the last part is the background as a separate group, which has no expert
        chosen = [self._of_group(part, group) for group, part in enumerate(parts)]
        return self.layout.read(self.layout.join(chosen, rest.mean(dim=0)), logits, self.activation)

    def _of_group(self, part: ExpertLogits, group: int) -> Tensor:
        """Logits of a group: its expert's, or the mean of its experts'."""
        own = [stage for stage, of_group in enumerate(self.expert_groups) if of_group == group]
        return part[own[0]] if len(own) == 1 else (part[own] if own else part).mean(dim=0)
