// node-texts prints the user data that Karpenter would give nodes of a node class and node pool.
//
// It reads one JSON request from standard input and writes one JSON answer. Everything between the
// two objects and the text is Karpenter's own code: strict decoding into its types, the node claim
// of the pool, the launch template options and the merge with the class's own user data.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	karpenterv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
)

// Cluster is what Karpenter learns from EKS.
type Cluster struct {
	Name                 string `json:"name"`
	Endpoint             string `json:"endpoint"`
	CertificateAuthority string `json:"certificateAuthority"`
	ServiceCIDR          string `json:"serviceCIDR"`
	DNSAddress           string `json:"dnsAddress"`
	Region               string `json:"region"`
}

// Node is one kind of node: the two objects as an API server holds them.
type Node struct {
	Name         string          `json:"name"`
	NodeClass    json.RawMessage `json:"nodeClass"`
	NodePool     json.RawMessage `json:"nodePool"`
	InstanceType string          `json:"instanceType"`
	CapacityType string          `json:"capacityType"`
	MaxPods      int64           `json:"maxPods"`
}

// Request is what to merge.
type Request struct {
	Cluster Cluster `json:"cluster"`
	Nodes   []Node  `json:"nodes"`
}

// Merged is the text an instance would read, and what of it Karpenter's types do not know.
type Merged struct {
	Name     string         `json:"name"`
	Family   string         `json:"family"`
	UserData string         `json:"userData"`
	Labels   []string       `json:"labels"`
	Taints   []corev1.Taint `json:"taints"`
	// Unknown holds keys of the class's own text that Karpenter would drop.
	Unknown []string `json:"unknown"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "node-texts:", err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer) error {
	var request Request
	decoder := json.NewDecoder(input)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	answers := []Merged{}
	for _, node := range request.Nodes {
		merged, err := merge(context.Background(), request.Cluster, node)
		if err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
		answers = append(answers, merged)
	}
	encoder := json.NewEncoder(output)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(answers)
}

func merge(ctx context.Context, cluster Cluster, node Node) (Merged, error) {
	class, pool := &awsv1.EC2NodeClass{}, &karpenterv1.NodePool{}
	if err := yaml.UnmarshalStrict(node.NodeClass, class); err != nil {
		return Merged{}, fmt.Errorf("EC2NodeClass: %w", err)
	}
	if err := yaml.UnmarshalStrict(node.NodePool, pool); err != nil {
		return Merged{}, fmt.Errorf("NodePool: %w", err)
	}
	template, claim, err := launchTemplate(ctx, cluster, node, class, pool)
	if err != nil {
		return Merged{}, err
	}
	encoded, err := template.UserData.Script(ctx)
	if err != nil {
		return Merged{}, fmt.Errorf("merging user data: %w", err)
	}
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return Merged{}, fmt.Errorf("decoding the merged user data: %w", err)
	}
	merged := Merged{
		Name:     node.Name,
		Family:   class.AMIFamily(),
		UserData: string(text),
		Labels:   labelKeys(template.Labels),
		Taints:   append(claim.Spec.Taints, claim.Spec.StartupTaints...),
		Unknown:  []string{},
	}
	if merged.Family == awsv1.AMIFamilyBottlerocket && class.Spec.UserData != nil {
		merged.Unknown, err = unknownSettings(*class.Spec.UserData)
	}
	return merged, err
}
