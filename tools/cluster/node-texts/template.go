package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	karpenterv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	claims "sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily/bootstrap"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
)

const sharedTenancy = "default"

// launchTemplate goes the way of Karpenter's launch template provider, with one instance type and
// one image, and no call to AWS.
func launchTemplate(
	ctx context.Context, cluster Cluster, node Node, class *awsv1.EC2NodeClass, pool *karpenterv1.NodePool,
) (*amifamily.LaunchTemplate, *karpenterv1.NodeClaim, error) {
	instance, err := instanceType(node, pool)
	if err != nil {
		return nil, nil, err
	}
	claimTemplate := claims.NewNodeClaimTemplate(pool)
	claimTemplate.InstanceTypeOptions = cloudprovider.InstanceTypes{instance}
	claim := claimTemplate.ToNodeClaim()

	class.Status.SecurityGroups = []awsv1.SecurityGroup{{ID: "sg-0123456789abcdef0"}}
	class.Status.AMIs = []awsv1.AMI{{ID: "ami-0123456789abcdef0"}}
	provider := &launchtemplate.DefaultProvider{
		CABundle:        &cluster.CertificateAuthority,
		ClusterEndpoint: cluster.Endpoint,
		KubeDNSIP:       net.ParseIP(cluster.DNSAddress),
	}
	provider.ClusterCIDR.Store(&cluster.ServiceCIDR)
	ctx = options.ToContext(ctx, &options.Options{ClusterName: cluster.Name})
	labels := maps.Clone(claim.Labels)
	labels[karpenterv1.CapacityTypeLabelKey] = node.CapacityType
	settings, err := provider.CreateAMIOptions(ctx, class, labels, map[string]string{})
	if err != nil {
		return nil, nil, err
	}
	resolved, err := amifamily.NewDefaultResolver(cluster.Region).Resolve(
		class, claim, []*cloudprovider.InstanceType{instance}, node.CapacityType, sharedTenancy, settings, "", 0,
	)
	if err != nil {
		return nil, nil, err
	}
	if len(resolved) != 1 {
		return nil, nil, fmt.Errorf("%d launch templates where one was expected", len(resolved))
	}
	return resolved[0], claim, nil
}

// instanceType refuses a type the pool would not buy, so that nobody judges a text no node gets.
func instanceType(node Node, pool *karpenterv1.NodePool) (*cloudprovider.InstanceType, error) {
	requirements := scheduling.NewRequirements(
		scheduling.NewRequirement(corev1.LabelInstanceTypeStable, corev1.NodeSelectorOpIn, node.InstanceType),
		scheduling.NewRequirement(karpenterv1.CapacityTypeLabelKey, corev1.NodeSelectorOpIn, node.CapacityType),
	)
	wanted := scheduling.NewNodeSelectorRequirementsWithMinValues(pool.Spec.Template.Spec.Requirements...)
	if err := requirements.Intersects(wanted); err != nil {
		return nil, fmt.Errorf("the node pool does not buy this node: %w", err)
	}
	return &cloudprovider.InstanceType{
		Name:         node.InstanceType,
		Requirements: requirements,
		Capacity:     corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(node.MaxPods, resource.DecimalSI)},
	}, nil
}

// unknownSettings decodes the two tables Karpenter takes into types of its own strictly.
// Karpenter itself only logs what it does not know of settings.kubernetes, and drops it.
func unknownSettings(text string) ([]string, error) {
	var raw struct {
		Settings map[string]any `toml:"settings"`
	}
	if err := toml.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("user data is not TOML: %w", err)
	}
	typed := map[string]any{
		"kubernetes":         &bootstrap.BottlerocketKubernetes{},
		"bootstrap-commands": &map[string]bootstrap.BootstrapCommand{},
	}
	unknown := []string{}
	for _, table := range slices.Sorted(maps.Keys(typed)) {
		content, found := raw.Settings[table]
		if !found {
			continue
		}
		keys, err := unknownKeys(content, typed[table])
		if err != nil {
			return nil, fmt.Errorf("settings.%s: %w", table, err)
		}
		for _, key := range keys {
			unknown = append(unknown, fmt.Sprintf("settings.%s.%s", table, key))
		}
	}
	return unknown, nil
}

func unknownKeys(content, target any) ([]string, error) {
	text, err := toml.Marshal(content)
	if err != nil {
		return nil, err
	}
	err = toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(target)
	var strict *toml.StrictMissingError
	if !errors.As(err, &strict) {
		return nil, err
	}
	keys := []string{}
	for _, each := range strict.Errors {
		keys = append(keys, strings.Join(each.Key(), "."))
	}
	return keys, nil
}

func labelKeys(labels map[string]string) []string {
	return slices.Sorted(maps.Keys(labels))
}
