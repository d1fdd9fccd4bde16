// The same list with net/http and pgx (Debian: golang-go golang-github-jackc-pgx-v4-dev). main SOCKET
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v4/pgxpool"
)

type instance struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Image     string    `json:"image"`
	Status    string    `json:"status"`
	Type      string    `json:"instance_type"`
	Ports     string    `json:"ports"`
	CreatedAt time.Time `json:"created_at"`
}

func main() {
	pool, err := pgxpool.Connect(context.Background(), os.Getenv("PEER_DATABASE")+"&pool_max_conns=8")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		digest := sha256.Sum256([]byte(r.Header.Get("X-API-Key")))
		var owner, role, key string
		err := pool.QueryRow(r.Context(), `select u.id::text, u.role, k.id::text from api_keys k join users u on u.id = k.owner_id
			where k.key_hash = $1 and k.revoked_at is null`, digest[:]).Scan(&owner, &role, &key)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"error":"unauthorized"}`))
			return
		}
		rows, err := pool.Query(r.Context(), `select id::text, name, image, status, instance_type, ports, created_at from instances
			where owner_id = $1 order by id desc limit 51`, owner)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		defer rows.Close()
		found := []instance{}
		for rows.Next() {
			var i instance
			if rows.Scan(&i.ID, &i.Name, &i.Image, &i.Status, &i.Type, &i.Ports, &i.CreatedAt) == nil {
				found = append(found, i)
			}
		}
		json.NewEncoder(w).Encode(map[string]interface{}{"data": found})
	})
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	os.Chmod(os.Args[1], 0777)
	log.Fatal(http.Serve(listener, nil))
}
