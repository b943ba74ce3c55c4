// A device plugin that offers /dev/fuse as a resource: a container that has it in its limits gets
// the device, and the leave of its cgroup to open it, and is not privileged. It stands in for
// squat/generic-device-plugin, whose flags it takes, and which is had as an image only.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const socket = "mountkit-fuse.sock"

// What is offered under one name.
type device struct {
	Name   string
	Groups []struct {
		Count int
		Paths []struct{ Path string }
	}
}

type plugin struct {
	api.UnimplementedDevicePluginServer
	count int
	path  string
}

func (plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	list := &api.ListAndWatchResponse{}
	for number := range p.count {
		list.Devices = append(list.Devices, &api.Device{ID: fmt.Sprint("fuse-", number), Health: api.Healthy})
	}
	if err := stream.Send(list); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{
			Devices: []*api.DeviceSpec{{ContainerPath: p.path, HostPath: p.path, Permissions: "rw"}}})
	}
	return response, nil
}

func register(resource string) error {
	kubelet, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer kubelet.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(kubelet).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: socket, ResourceName: resource})
	return err
}

func main() {
	domain := flag.String("domain", "squat.ai", "what the resource's name begins with")
	text := flag.String("device", "", "the device as JSON: its name, count and path")
	flag.Parse()
	var offered device
	if err := json.Unmarshal([]byte(*text), &offered); err != nil {
		log.Fatal("-device is no JSON: ", err)
	}
	if len(offered.Groups) != 1 || len(offered.Groups[0].Paths) != 1 {
		log.Fatal("-device has to have one group of one path")
	}
	group := offered.Groups[0]
	resource := *domain + "/" + offered.Name
	path := api.DevicePluginPath + socket
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, plugin{count: group.Count, path: group.Paths[0].Path})
	go func() { log.Fatal(server.Serve(listener)) }()
	for err := register(resource); err != nil; err = register(resource) {
		log.Print(err)
		time.Sleep(time.Second)
	}
	log.Print("registered ", resource)
	select {}
}
