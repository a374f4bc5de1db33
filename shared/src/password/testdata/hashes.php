<?php
// Hashes the password that is given in hexadecimal, as PHP, Laravel and Symfony do. Prints
// a line for each hash: where it is from, a tab, the hash.
// Laravel's Hash and Symfony's NativePasswordHasher call password_hash with these options.
[, $hex, $cost] = $argv;
$password = hex2bin($hex);
$version = 'PHP ' . PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION;
[$rounds, $argon2] = $cost === 'default'
    ? [13, ['memory_cost' => 65536, 'time_cost' => 4, 'threads' => 1]]
    : [4, ['memory_cost' => 1024, 'time_cost' => 1, 'threads' => 1]];

if (!str_contains($password, "\0")) {
    printf("%s bcrypt\t%s\n", $version, password_hash($password, PASSWORD_BCRYPT, ['cost' => $rounds]));
}
if (strlen($password) > 72 || str_contains($password, "\0")) {
    // As in Symfony\Component\PasswordHasher\Hasher\NativePasswordHasher::hash.
    $password = base64_encode(hash('sha512', $password, true));
    printf("Symfony bcrypt\t%s\n", password_hash($password, PASSWORD_BCRYPT, ['cost' => $rounds]));
} else {
    printf("%s argon2i\t%s\n", $version, password_hash($password, PASSWORD_ARGON2I, $argon2));
    printf("%s argon2id\t%s\n", $version, password_hash($password, PASSWORD_ARGON2ID, $argon2));
}
