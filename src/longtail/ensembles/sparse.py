"""Sparse ensemble: the scores of a group come from its own expert alone."""

from longtail.ensembles.alignment import Activation, Background, GroupLayout
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities


class SparseEnsemble(Ensemble):
    """Logits of group j are those of stage j; the background's are the mean of all stages.

    With ``align`` identical stages do not give back the stage, since alignment changes its logits. Permuting the
    stages is permuting the groups.

    Args:
        groups: Groups of the foreground classes, as many as stages, in the order of the stages.
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
        align: bool = True,
        background: Background = "relative",
        keep_level: bool = False,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.layout = GroupLayout(groups, background, keep_level=keep_level)
        self.align = align
        self.activation = activation

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read.

        Raises:
            ConfigError: The number of stages is not the number of groups.
        """
        if len(logits) != self.layout.num_groups:
            raise ConfigError(
                f"the sparse ensemble has {self.layout.num_groups} groups for {len(logits)} stages",
                fix="give as many groups as stages, or use the dynamic ensemble",
            )
        parts, rest = self.layout.split(logits)
        if self.align:
            parts, rest = self.layout.align(parts, rest)
        # the last part is the background as a separate group, which has no expert
        chosen = [part[k] if k < len(logits) else part.mean(dim=0) for k, part in enumerate(parts)]
        return self.layout.read(self.layout.join(chosen, rest.mean(dim=0)), logits, self.activation)
