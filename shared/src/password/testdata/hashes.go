// Hashes the password that is given in hexadecimal, as Supabase's GoTrue does: with
// bcrypt of golang.org/x/crypto. Prints where the hash is from, a tab, the hash.
package main

import (
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/crypto/bcrypt"
)

func main() {
	password, err := hex.DecodeString(os.Args[1])
	if err != nil {
		panic(err)
	}
	cost := bcrypt.MinCost
	if os.Args[2] == "default" {
		cost = bcrypt.DefaultCost
	}
	hash, err := bcrypt.GenerateFromPassword(password, cost)
	if err == bcrypt.ErrPasswordTooLong {
		return
	}
	if err != nil {
		panic(err)
	}
	fmt.Printf("Go bcrypt\t%s\n", hash)
}
