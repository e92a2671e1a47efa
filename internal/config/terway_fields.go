package config

import (
	"fmt"
	"strconv"
	"strings"
)

// field translates one field of a Terway plugin or of eni_conf. The error is a
// field that has the wrong form.
func (im *importer) field(f jsonField) error {
	switch f.name {
	case "name", "cniVersion", "version":
	case "type":
		if f.text() != "terway" {
			im.reject(f, "only plugins of the type terway can be imported")
		}
	case "cilium_args":
		return im.ciliumArgs(f)
	case "mtu":
		im.set("mtu", f.text(), f)
	case "ip_stack":
		im.ipStack(f)
	case "capabilities":
		return im.capabilities(f)
	case "eniip_virtual_type":
		im.virtualType(f)
	case "network_policy_provider":
		im.note(fmt.Sprintf("%s=%s (%s): Placid's own programs enforce NetworkPolicies; enable-policy=never switches them off", f.name, quote(f.text()), f.where()))
	case "cilium_enable_hubble":
		if on, err := strconv.ParseBool(f.text()); err == nil && !on {
			return nil
		}
		im.note(fmt.Sprintf("%s=%s (%s): flows are not exported in this version", f.name, quote(f.text()), f.where()))
	default:
		if instead := terwayInstead(f.name); instead != "" {
			im.note(fmt.Sprintf("%s (%s): not used: %s", f.name, f.where(), instead))
			return nil
		}
		im.reject(f, "not a field that is known")
	}
	return nil
}

// terwayInstead says what Placid does instead of what a field of Terway asks for;
// "" for a field that is not known, or whose loss must not pass as a warning.
func terwayInstead(name string) string {
	for instead, names := range map[string]string{
		"flows are not exported in this version":                                                           "cilium_hubble_metrics cilium_hubble_listen_address cilium_hubble_metrics_server",
		"destinations that the node holds itself always go to its stack":                                   "host_stack_cidrs",
		"pods' host interfaces are named by Placid":                                                        "veth_prefix",
		"the MTU is taken from the native devices unless mtu is set":                                       "auto_mtu",
		"bandwidth limits come from the CNI capability and are kept by the kernel's token bucket":          "bandwidth_mode enable_network_priority",
		"the addresses of Services come from Services themselves":                                          "service_cidr",
		"VLAN frames are left to the node's stack":                                                         "vlan_strip_type",
		"pods reach their node by Placid's own routes":                                                     "disable_host_peer",
		"the API server's rate limits are k8s-client-qps and k8s-client-burst; set them if they matter":    "kube_client_qps kube_client_burst",
		"addresses come from ipam=cluster-pool or ipam=kubernetes; this version takes none from the cloud": terwayCloudFields(),
	} {
		for known := range strings.FieldsSeq(names) {
			if known == name {
				return instead
			}
		}
	}
	return ""
}

// terwayCloudFields names the fields of eni_conf that steer network interfaces and
// addresses of the cloud.
func terwayCloudFields() string {
	return `access_key access_secret credential_path ram_role region_id vpc_id
		max_pool_size min_pool_size min_eni max_eni eni_cap_ratio eni_cap_shift eni_cap_policy
		ip_warm_up_size idle_ip_reclaim_after idle_ip_reclaim_interval idle_ip_reclaim_batch_size
		idle_ip_reclaim_jitter_factor ip_pool_sync_period enable_ip_prefix ipv4_prefix_count
		ipam_type rate_limit backoff_override batch_size
		vswitches vswitch_selection_policy eni_selection_policy eni_tags eni_tag_filter
		security_group security_groups resource_group_id hot_plug
		allow_eni_trunk enable_eni_trunking disable_device_plugin enable_erdma enable_patch_pod_ips
		disable_security_group_check custom_stateful_workload_kinds wait_trunk_eni
		extra_routes extra_eip_attrs allow_eip_rob`
}

// ipStack translates the address families of the pods.
func (im *importer) ipStack(f jsonField) {
	families := map[string][2]string{
		"ipv4": {"true", "false"}, "": {"true", "false"}, "dual": {"true", "true"}, "ipv6": {"false", "true"},
	}
	on, ok := families[strings.ToLower(f.text())]
	if !ok {
		im.reject(f, "allowed: ipv4, ipv6 or dual")
		return
	}
	im.set("enable-ipv4", on[0], f)
	im.set("enable-ipv6", on[1], f)
}

// virtualType notes what becomes of Terway's choice of datapath.
func (im *importer) virtualType(f jsonField) {
	const instead = "pods get a veth pair with Placid's programs on its host side"
	switch strings.ToLower(f.text()) {
	case "datapathv2":
	case "ipvlan":
		im.note(fmt.Sprintf("%s=%s (%s): Datapath V2 on new nodes in Terway too; %s", f.name, quote(f.text()), f.where(), instead))
	case "", "veth":
		im.note(fmt.Sprintf("%s=%s (%s): %s instead of policy routing", f.name, quote(f.text()), f.where(), instead))
	default:
		im.reject(f, "allowed: veth, ipvlan or datapathv2")
	}
}

// capabilities checks the CNI capabilities: Placid has bandwidth and portMappings.
func (im *importer) capabilities(f jsonField) error {
	members, err := im.object(f.raw, f.start, f.path+".")
	if err != nil {
		return err
	}
	for _, m := range members {
		on, err := strconv.ParseBool(string(m.raw))
		switch {
		case err != nil:
			im.reject(m, "allowed: true or false")
		case m.name != "bandwidth" && m.name != "portMappings":
			im.reject(m, "not a capability that is known")
		case !on:
			im.note(fmt.Sprintf("%s=false (%s): Placid always honours the capability %s", m.name, m.where(), m.name))
		}
	}
	return nil
}

// ciliumArgs translates the agent's flags. Later ones win, as they do in Terway.
func (im *importer) ciliumArgs(f jsonField) error {
	flags, stray, err := parseArgs(f.text())
	if err != nil {
		return fmt.Errorf("%s: %w", f.where(), err)
	}
	for _, word := range stray {
		im.rejectArg(f, "", word, "not a flag")
	}
	// Only the last of several equal flags counts, so only that one is judged.
	last := map[string]int{}
	for i, a := range flags {
		if before, ok := last[a.key]; ok && flags[before] != a {
			im.note(fmt.Sprintf("--%s (%s): stands several times, the last one is used", a.key, f.where()))
		}
		last[a.key] = i
	}
	for i, a := range flags {
		if last[a.key] == i {
			im.ciliumArg(f, a)
		}
	}
	return nil
}

func (im *importer) ciliumArg(f jsonField, a arg) {
	key, isKey := im.resolver.keys[a.key]
	foreign, isForeign := im.resolver.foreign[a.key]
	if !a.hasValue && (key.Type == typeBool || isForeign && foreign.isSwitch()) {
		a.value, a.hasValue = "true", true
	}
	switch {
	case !isKey && !isForeign:
		im.rejectArg(f, a.key, a.value, "unknown key; "+im.resolver.meant(a.key))
	case !a.hasValue:
		im.rejectArg(f, a.key, "", "needs a value")
	case isForeign && foreign.check(a.value) != nil:
		im.rejectArg(f, a.key, a.value, foreign.check(a.value).Error())
	default:
		im.set(a.key, a.value, f)
	}
}

// rejectArg lists one flag, or a word that is none, as not understood.
func (im *importer) rejectArg(f jsonField, key, value, why string) {
	path := f.path
	if key != "" {
		path += " --" + key
	}
	if isSecret(key) {
		value = "(hidden)"
	}
	im.notUnderstood = append(im.notUnderstood, NotUnderstood{Field: path, Value: value, Line: f.line, Why: why})
}
