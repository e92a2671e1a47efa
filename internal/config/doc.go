// Package config is the one configuration of the agent and the operator: a
// struct whose tags declare every key, and the code that fills it from its
// sources and follows the config directory. It also translates Terway's CNI file into Placid's keys.
//
// Sources, the later wins: defaults, the config directory (a mounted ConfigMap,
// one file a key), the environment (CILIUM_X, then PLACID_X), flags.
//
// Invariants:
//   - The tags of Config are the only declaration of a key. Flags, environment
//     names, validation, `placid config` and the documentation follow from them.
//   - Every value that any source gives is checked, also one that a later source
//     overrides; settings that contradict each other are judged on the effective
//     values. All problems are reported at once, sorted, and each names the key,
//     the value, where it was set and what is allowed.
//   - Nothing is ignored in silence. A key of Cilium that Placid does without is
//     accepted only from a named list and gives a warning; where ignoring it would
//     weaken security or break the cluster, only its harmless value is accepted.
//   - The package keeps no state: Load reads its sources and returns values, which
//     are not changed any more. Follow hands out new ones.
//   - Only keys with the tag live change while a program runs. A configuration that
//     has any problem is not applied, not even in part.
package config
