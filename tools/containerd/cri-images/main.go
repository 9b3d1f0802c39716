// cri-images asks a container runtime's CRI image service what a kubelet asks it.
//
//	cri-images SOCKET pull IMAGE    prints the reference of the image that was pulled
//	cri-images SOCKET list          prints the images as JSON
//	cri-images SOCKET status        prints the runtime's own account of its configuration as JSON
//	cri-images SOCKET collect       has containerd collect garbage, and waits until it has
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	leases "github.com/containerd/containerd/api/services/leases/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const deadline = 60 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri-images:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("arguments are SOCKET and pull IMAGE, list, status or collect")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	connection, err := grpc.NewClient(
		"unix://"+arguments[0], grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	answer, err := ask(ctx, connection, arguments[1:])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

func ask(ctx context.Context, connection *grpc.ClientConn, arguments []string) (any, error) {
	images := cri.NewImageServiceClient(connection)
	switch command := arguments[0]; {
	case command == "pull" && len(arguments) == 2:
		return images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: arguments[1]}})
	case command == "list" && len(arguments) == 1:
		return images.ListImages(ctx, &cri.ListImagesRequest{})
	case command == "status" && len(arguments) == 1:
		return cri.NewRuntimeServiceClient(connection).Status(ctx, &cri.StatusRequest{Verbose: true})
	case command == "collect" && len(arguments) == 1:
		return collect(ctx, leases.NewLeasesClient(connection))
	default:
		return nil, fmt.Errorf("unknown command %q", arguments)
	}
}

// collect makes and ends a lease: ending one synchronously is how a client asks for a collection.
func collect(ctx context.Context, client leases.LeasesClient) (any, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io")
	const id = "collect"
	if _, err := client.Create(ctx, &leases.CreateRequest{ID: id}); err != nil {
		return nil, err
	}
	return client.Delete(ctx, &leases.DeleteRequest{ID: id, Sync: true})
}
