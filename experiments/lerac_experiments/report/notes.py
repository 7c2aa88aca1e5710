"""What a reader of a report must know of its numbers."""

NOTES = """\
Means and standard deviations (N - 1) over the runs, of the weights of the epoch with the best validation. The best of
each model and data set is bold.

"Against conventional" is the mean of the differences between runs of the same seed. All p-values are two-sided. "p over
seeds" is Student's paired t-test of these differences: might other seeds go the other way? McNemar's test is of
classifications: might other test examples? It is exact, and over all seeds: each test example counts with the runs that
only the regime classifies correctly, less those that only conventional training does. So seeds that contradict each
other cancel, and what runs on the same examples have in common is not counted twice. (For one seed that is McNemar's
test, 1947; for several, the test of clusters of matched pairs of Durkalski et al., 2003, by all signs that the examples
might have had.) In brackets: in how many seeds the regime is better and worse with p < 0.05 by itself. "p" is the
larger of the two (the intersection-union test, Berger, 1982): a difference is to be believed where neither other seeds
nor other examples would undo it. Of a single seed nothing can be said of others, and there is no such p.

The least time per step and per epoch is the mean of the fastest run. Overhead is the ratio of the times per epoch of
runs of the same seed, with its 95% interval over the seeds (Student's, of the logarithms); "within noise" where that
takes in 0; nothing for a single seed. These runs were not interleaved, so that times hold for an idle machine only;
`make bench` measures overheads in interleaved pairs.

Settings: eta_1 and eta_n are the rates with which LeRaC starts at the first and at the last layer (`--lr`, `--min-lr`),
and k the epochs after which all layers have eta_1 (`--lerac-epochs`). CBS starts with a Gaussian of width sigma
(`--sigma`), which is multiplied by d (`--decay`) every u epochs (`--cbs-every`). All regimes of a model are in one row,
also if none of them uses LeRaC or CBS.
"""

GRID_NOTE = """\
Where settings were chosen among (a grid), every combination is on the validation part alone, and the best of each
regime by its mean there stands in all other tables. The choice has not seen the test part. But the same trained models
were chosen by and are compared, and the p-values know nothing of the choice: they are too small where many were chosen
among, or where one regime had more combinations than another. For p-values without that, train the chosen settings
again with other seeds.
"""
