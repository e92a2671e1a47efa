package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	maxSocketPath  = 107 // bytes of sun_path less the closing zero
	maxClusterName = 32
	maxNodeName    = 253
	maxDeviceName  = 15
	maxLabelValue  = 63
	maglevSeedSize = 12
)

// format is a rule for the text of a string key.
type format struct {
	allowed string
	check   func(text string) error
}

// formatOf gives the rule that the tag `format` names. Any text passes the rule
// of an unknown name; a test checks that the tags name known ones.
func formatOf(name string) format {
	switch name {
	case "path":
		return format{"an absolute path", checkPath}
	case "socket":
		return format{fmt.Sprintf("an absolute path of at most %d bytes", maxSocketPath), checkSocket}
	case "conflist":
		return format{"an absolute path that ends in .conflist", checkConflist}
	case "address":
		return format{"host:port or :port, the port from 1 to 65535", checkAddress}
	case "url":
		return format{"a URL such as https://192.0.2.1:6443", checkURL}
	case "cluster-name":
		return format{fmt.Sprintf("1 to %d characters of a-z, 0-9 and -, not starting or ending with -", maxClusterName), checkClusterName}
	case "node-name":
		return format{fmt.Sprintf("a node name: at most %d characters of a-z, 0-9, - and .", maxNodeName), checkNodeName}
	case "device":
		return format{fmt.Sprintf("a device name of at most %d characters", maxDeviceName), checkDevice}
	case "label-value":
		return format{fmt.Sprintf("at most %d letters, digits, -, _ and ., starting and ending with a letter or digit", maxLabelValue), checkLabelValue}
	case "maglev-seed":
		return format{fmt.Sprintf("%d bytes in base64", maglevSeedSize), checkMaglevSeed}
	}
	return format{"any text", func(string) error { return nil }}
}

func checkPath(text string) error {
	if !filepath.IsAbs(text) {
		return errors.New("is not an absolute path")
	}
	return nil
}

func checkSocket(text string) error {
	if len(text) > maxSocketPath {
		return fmt.Errorf("is %d bytes long, too long for a unix socket", len(text))
	}
	return checkPath(text)
}

func checkConflist(text string) error {
	if filepath.Ext(text) != ".conflist" {
		return errors.New("does not end in .conflist")
	}
	return checkPath(text)
}

func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("is not host:port")
	}
	if strings.ContainsAny(host, " /") {
		return fmt.Errorf("has the bad host %s", quote(host))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("has the bad port %s", quote(port))
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return errors.New("is not an http or https URL")
	}
	return nil
}

func checkClusterName(text string) error {
	if len(text) > maxClusterName || !regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`).MatchString(text) {
		return errors.New("is not a cluster name")
	}
	return nil
}

func checkNodeName(text string) error {
	if len(text) > maxNodeName || !regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$`).MatchString(text) {
		return errors.New("is not a node name")
	}
	return nil
}

func checkLabelValue(text string) error {
	if len(text) > maxLabelValue || !regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`).MatchString(text) {
		return errors.New("is not the value of a label")
	}
	return nil
}

func checkMaglevSeed(text string) error {
	seed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errors.New("is not base64")
	}
	if len(seed) != maglevSeedSize {
		return fmt.Errorf("has %d bytes", len(seed))
	}
	return nil
}

func checkDevice(text string) error {
	if len(text) > maxDeviceName || text == "." || text == ".." || strings.ContainsAny(text, "/:") {
		return fmt.Errorf("has the bad device name %s", quote(text))
	}
	return nil
}
