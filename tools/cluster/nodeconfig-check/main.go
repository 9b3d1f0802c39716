// nodeconfig-check decodes NodeConfig documents strictly, which nodeadm itself does not: it drops
// what it does not know. Documents come as a JSON list of texts on standard input; findings go to
// standard output as a JSON list of texts, empty when there are none.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	nodeadm "github.com/awslabs/amazon-eks-ami/nodeadm/api/v1alpha1"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// The types are plain strings, and nodeadm ignores a value it has no case for.
var (
	strategies = []nodeadm.LocalStorageStrategy{
		"", nodeadm.LocalStorageRAID0, nodeadm.LocalStorageRAID10, nodeadm.LocalStorageMount,
	}
	disabledMounts = []nodeadm.DisabledMount{
		nodeadm.DisabledMountContainerd, nodeadm.DisabledMountPodLogs, nodeadm.DisabledMountSOCI,
	}
	features = []nodeadm.Feature{nodeadm.InstanceIdNodeName, nodeadm.FastImagePull}
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "nodeconfig-check:", err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer) error {
	var documents []string
	if err := json.NewDecoder(input).Decode(&documents); err != nil {
		return fmt.Errorf("reading the documents: %w", err)
	}
	findings := []string{}
	for index, document := range documents {
		for _, finding := range check(document) {
			findings = append(findings, fmt.Sprintf("document %d: %s", index, finding))
		}
	}
	encoder := json.NewEncoder(output)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(findings)
}

func check(document string) []string {
	var config nodeadm.NodeConfig
	if err := yaml.UnmarshalStrict([]byte(document), &config); err != nil {
		return []string{err.Error()}
	}
	findings := []string{}
	if got, want := config.APIVersion+"/"+config.Kind, nodeadm.GroupVersion.String()+"/NodeConfig"; got != want {
		findings = append(findings, fmt.Sprintf("it is a %s, not a %s", got, want))
	}
	storage := config.Spec.Instance.LocalStorage
	if !slices.Contains(strategies, storage.Strategy) {
		findings = append(findings, fmt.Sprintf("no localStorage strategy %q", storage.Strategy))
	}
	for _, mount := range storage.DisabledMounts {
		if !slices.Contains(disabledMounts, mount) {
			findings = append(findings, fmt.Sprintf("no mount %q to disable", mount))
		}
	}
	for feature := range config.Spec.FeatureGates {
		if !slices.Contains(features, feature) {
			findings = append(findings, fmt.Sprintf("no feature gate %q", feature))
		}
	}
	if err := checkKubelet(config.Spec.Kubelet); err != nil {
		findings = append(findings, "spec.kubelet.config: "+err.Error())
	}
	return findings
}

func checkKubelet(options nodeadm.KubeletOptions) error {
	text, err := json.Marshal(options.Config)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(text, &kubelet.KubeletConfiguration{})
}
