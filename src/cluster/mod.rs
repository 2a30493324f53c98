//! Kubernetes: shared watches of workloads and pods, and the actions on workloads (undo, scale). Not carried out by this build: a
//! rule that needs them is refused by `run` with a sentence. What belongs here: which pod is which arm (for the packs' `pods()`),
//! the typed signals of pods (crash loop, failed probes), and one file per action. It must never write a weight (`router` does).
