package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
)

// The order in which karpenter-provider-aws launches what a NodeClaim allows: one capacity type per
// launch, and no other one in its place when that is sold out (pkg/providers/instance, getCapacityType).
var launchOrder = []string{v1.CapacityTypeReserved, v1.CapacityTypeSpot, v1.CapacityTypeOnDemand}

const (
	nodePoll     = 20 * time.Millisecond
	nodeDeadline = 10 * time.Second
)

// offer names one offering of one instance type.
type offer struct {
	InstanceType string `json:"instanceType"`
	CapacityType string `json:"capacityType"`
	Zone         string `json:"zone"`
}

// covers says whether a line of the sold-out file means `other`; what a line leaves empty is any.
func (o offer) covers(other offer) bool {
	return (o.InstanceType == "" || o.InstanceType == other.InstanceType) &&
		(o.CapacityType == "" || o.CapacityType == other.CapacityType) &&
		(o.Zone == "" || o.Zone == other.Zone)
}

// region is the kwok provider with a memory: what it could not launch it does not offer again while
// the list of what is sold out stays the same, and a reservation offers what is left of it.
type region struct {
	*kwok.CloudProvider
	types   []*cloudprovider.InstanceType
	soldOut string

	mu      sync.Mutex
	listed  time.Time
	learned map[offer]bool
}

func newRegion(provider *kwok.CloudProvider, types []*cloudprovider.InstanceType, soldOut string) *region {
	return &region{CloudProvider: provider, types: types, soldOut: soldOut, learned: map[offer]bool{}}
}

// GetInstanceTypes offers what is not known to be sold out.
func (r *region) GetInstanceTypes(ctx context.Context, _ *v1.NodePool) ([]*cloudprovider.InstanceType, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.soldOutLines(); err != nil {
		return nil, err
	}
	running, err := r.running(ctx)
	if err != nil {
		return nil, err
	}
	types := make([]*cloudprovider.InstanceType, 0, len(r.types))
	for _, known := range r.types {
		offerings := make(cloudprovider.Offerings, 0, len(known.Offerings))
		for _, offering := range known.Offerings {
			left := offering.ReservationCapacity - running[reservation(offering)]
			offerings = append(offerings, &cloudprovider.Offering{
				Requirements:        offering.Requirements,
				Price:               offering.Price,
				ReservationCapacity: max(left, 0),
				Available:           !r.learned[offerOf(known, offering)] && (!isReserved(offering) || left > 0),
			})
		}
		types = append(types, &cloudprovider.InstanceType{
			Name: known.Name, Requirements: known.Requirements, Offerings: offerings,
			Capacity: known.Capacity, Overhead: known.Overhead,
		})
	}
	return types, nil
}

// Create launches the cheapest offering of the first capacity type there is, as EC2 would.
func (r *region) Create(ctx context.Context, claim *v1.NodeClaim) (*v1.NodeClaim, error) {
	types, err := r.GetInstanceTypes(ctx, nil)
	if err != nil {
		return nil, err
	}
	wanted := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	for _, kind := range launchOrder {
		candidates := candidatesFor(types, wanted, kind)
		if len(candidates) == 0 {
			continue
		}
		chosen, err := r.firstToBeHad(candidates)
		if err != nil {
			return nil, err
		}
		created, err := r.CloudProvider.Create(ctx, narrowed(claim, chosen))
		if err == nil && kind == v1.CapacityTypeReserved {
			err = r.awaitNode(ctx, created.Status.ProviderID)
		}
		return created, err
	}
	return nil, cloudprovider.NewInsufficientCapacityError(fmt.Errorf("nothing is offered that the NodeClaim allows"))
}

// firstToBeHad tries candidates in their order and remembers those that were sold out.
func (r *region) firstToBeHad(candidates []candidate) (candidate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, err := r.soldOutLines()
	if err != nil {
		return candidate{}, err
	}
	for _, candidate := range candidates {
		if !covered(lines, candidate.offer) {
			return candidate, nil
		}
		r.learned[candidate.offer] = true
	}
	return candidate{}, cloudprovider.NewInsufficientCapacityError(fmt.Errorf(
		"sold out: %s of %d offerings, the first %s in %s", candidates[0].offer.CapacityType,
		len(candidates), candidates[0].offer.InstanceType, candidates[0].offer.Zone,
	))
}

// awaitNode returns once an instance has its node: from then on `running` counts it. The provider
// makes the node after it has returned, with a second of retries (k8s.io/client-go, DefaultBackoff).
func (r *region) awaitNode(ctx context.Context, id string) error {
	return wait.PollUntilContextTimeout(ctx, nodePoll, nodeDeadline, true, func(ctx context.Context) (bool, error) {
		instances, err := r.List(ctx)
		return slices.ContainsFunc(instances, func(i *v1.NodeClaim) bool { return i.Status.ProviderID == id }), err
	})
}

// running counts instances per reservation.
func (r *region) running(ctx context.Context) (map[string]int, error) {
	instances, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, instance := range instances {
		if id, ok := instance.Labels[reservationLabel]; ok {
			count[id]++
		}
	}
	return count, nil
}

// soldOutLines is what cannot be had now. Another list ends the memory of the one before.
func (r *region) soldOutLines() ([]offer, error) {
	if r.soldOut == "" {
		return nil, nil
	}
	file, err := os.Stat(r.soldOut)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !file.ModTime().Equal(r.listed) {
		r.listed = file.ModTime()
		clear(r.learned)
	}
	text, err := os.ReadFile(r.soldOut)
	if err != nil {
		return nil, err
	}
	var lines []offer
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, fmt.Errorf("%s: %w", r.soldOut, err)
	}
	return lines, nil
}

// candidate is an offering that a NodeClaim allows.
type candidate struct {
	offer    offer
	offering *cloudprovider.Offering
}

func candidatesFor(types []*cloudprovider.InstanceType, wanted scheduling.Requirements, kind string) []candidate {
	var found []candidate
	for _, instanceType := range types {
		if !wanted.Get(corev1.LabelInstanceTypeStable).Has(instanceType.Name) {
			continue
		}
		for _, offering := range instanceType.Offerings.Available().Compatible(wanted) {
			if offering.CapacityType() == kind {
				found = append(found, candidate{offerOf(instanceType, offering), offering})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.offering.Price, b.offering.Price) })
	return found
}

// narrowed is the NodeClaim with room for nothing but `chosen`.
func narrowed(claim *v1.NodeClaim, chosen candidate) *v1.NodeClaim {
	exact := map[string]string{
		corev1.LabelInstanceTypeStable: chosen.offer.InstanceType,
		v1.CapacityTypeLabelKey:        chosen.offer.CapacityType,
		corev1.LabelTopologyZone:       chosen.offer.Zone,
	}
	if isReserved(chosen.offering) {
		exact[reservationLabel] = reservation(chosen.offering)
	}
	narrow := claim.DeepCopy()
	narrow.Spec.Requirements = slices.DeleteFunc(narrow.Spec.Requirements, func(r v1.NodeSelectorRequirementWithMinValues) bool {
		_, replaced := exact[r.Key]
		return replaced
	})
	for key, value := range exact {
		narrow.Spec.Requirements = append(narrow.Spec.Requirements, v1.NodeSelectorRequirementWithMinValues{
			Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value},
		})
	}
	return narrow
}

func offerOf(instanceType *cloudprovider.InstanceType, offering *cloudprovider.Offering) offer {
	return offer{instanceType.Name, offering.CapacityType(), offering.Zone()}
}

func covered(lines []offer, offered offer) bool {
	return slices.ContainsFunc(lines, func(line offer) bool { return line.covers(offered) })
}

func isReserved(offering *cloudprovider.Offering) bool {
	return offering.CapacityType() == v1.CapacityTypeReserved
}

// reservation is the id of an offering's reservation, empty for what is not reserved.
func reservation(offering *cloudprovider.Offering) string {
	if !isReserved(offering) {
		return ""
	}
	return offering.ReservationID()
}
