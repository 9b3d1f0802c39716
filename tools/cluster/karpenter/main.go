// Karpenter's own core, the kwok cloud provider of its module, and around that provider what EC2 adds:
// capacity reservations that are counted, and offerings that turn out to be sold out at launch.
package main

import (
	"os"

	"sigs.k8s.io/controller-runtime/pkg/log"
	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	"sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"
)

// The label that karpenter-provider-aws v1.14.1 gives the core for reservations (pkg/apis/v1/labels.go).
// The kwok provider gives none, so that the core would write a requirement without a key.
const reservationLabel = "karpenter.k8s.aws/capacity-reservation-id"

// A JSON list of what is sold out, read at every launch: [{"capacityType": "spot", "zone": "us-west-2a"}].
const soldOutVariable = "COLDSTART_SOLD_OUT_FILE"

func main() {
	cloudprovider.ReservationIDLabel = reservationLabel
	v1.WellKnownLabels = v1.WellKnownLabels.Insert(reservationLabel)
	ctx, op := operator.NewOperator()
	types, err := kwok.ConstructInstanceTypes(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "no instance types")
		os.Exit(1)
	}
	provider := newRegion(kwok.NewCloudProvider(ctx, op.GetClient(), types), types, os.Getenv(soldOutVariable))
	decorated := overlay.Decorate(provider, op.GetClient(), op.InstanceTypeStore)
	cluster := state.NewCluster(op.Clock, op.GetClient(), decorated)
	op.WithControllers(ctx, controllers.NewControllers(
		ctx, op.Manager, op.Clock, op.GetClient(), op.EventRecorder, decorated, provider, cluster,
		op.InstanceTypeStore,
	)...).Start(ctx)
}
