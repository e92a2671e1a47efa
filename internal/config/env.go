package config

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	envPrefix        = "PLACID_"
	envForeignPrefix = "CILIUM_"
)

// setting is one value as one source gave it.
type setting struct {
	key, value string
	// source is what ConfigEntry shows, where is what messages show.
	source, where string
	// tolerant settings may have an unknown key: it gives a warning.
	tolerant bool
}

// String gives the setting as messages show it.
func (s setting) String() string {
	return fmt.Sprintf("%s=%s (%s)", s.key, quote(s.value), s.where)
}

// envName gives the variable that sets a key.
func envName(prefix, key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// readEnv gives the settings in env ("NAME=value" each) whose name starts with
// prefix. An unknown name gives a setting whose key is the name of the variable.
func readEnv(env []string, prefix string, names []string) []setting {
	keyOf := make(map[string]string, len(names))
	for _, name := range names {
		keyOf[envName(prefix, name)] = name
	}
	var out []setting
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, prefix) || isServiceEnv(name, value) {
			continue
		}
		key, known := keyOf[name]
		if !known {
			key = name
		}
		out = append(out, setting{
			key: key, value: value, source: "env " + name, where: "env " + name,
			tolerant: prefix == envForeignPrefix,
		})
	}
	return out
}

// isServiceEnv recognises the variables that Kubernetes puts into containers for
// every Service of the namespace: X_SERVICE_HOST, X_SERVICE_PORT,
// X_SERVICE_PORT_NAME, X_PORT=tcp://…, X_PORT_80_TCP, X_PORT_80_TCP_ADDR and so
// on. X_PORT is judged by its value too, since keys such as tunnel-port have
// that form.
func isServiceEnv(name, value string) bool {
	if strings.HasSuffix(name, "_PORT") && regexp.MustCompile(`^(tcp|udp|sctp)://`).MatchString(value) {
		return true
	}
	return regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`).MatchString(name)
}
