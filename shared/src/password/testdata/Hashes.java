import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.concurrent.Semaphore;
import org.keycloak.common.crypto.CryptoIntegration;
import org.keycloak.credential.hash.PasswordHashProvider;
import org.keycloak.credential.hash.Pbkdf2PasswordHashProvider;
import org.keycloak.crypto.hash.Argon2PasswordHashProvider;
import org.keycloak.models.credential.PasswordCredentialModel;
import org.keycloak.util.JsonSerialization;

/**
 * Hashes the password that is given in hexadecimal with Keycloak's own providers. Prints a
 * line for each hash: where it is from, a tab, and the credential as an export of a realm
 * has it.
 */
public class Hashes {
    record Credential(String type, String secretData, String credentialData) {}

    public static void main(String[] arguments) throws Exception {
        CryptoIntegration.init(Hashes.class.getClassLoader());
        String password = new String(HexFormat.of().parseHex(arguments[0]), StandardCharsets.UTF_8);
        boolean asByDefault = arguments[1].equals("default");
        int memory = asByDefault ? 7168 : 256;
        for (String type : new String[] {"id", "i", "d"}) {
            print("argon2" + type, new Argon2PasswordHashProvider("1.3", type, 32, memory, 5, 1, new Semaphore(1)), password, 5);
        }
        print("argon2id 1.0", new Argon2PasswordHashProvider("1.0", "id", 32, 256, 1, 1, new Semaphore(1)), password, 1);
        // As today's factories have them, and as an earlier one had SHA-256.
        print("pbkdf2", new Pbkdf2PasswordHashProvider("pbkdf2", "PBKDF2WithHmacSHA1", 0, 0), password, asByDefault ? 1300000 : 1000);
        print("pbkdf2-sha256", new Pbkdf2PasswordHashProvider("pbkdf2-sha256", "PBKDF2WithHmacSHA256", 0, 0, 256), password, asByDefault ? 600000 : 1000);
        print("pbkdf2-sha512", new Pbkdf2PasswordHashProvider("pbkdf2-sha512", "PBKDF2WithHmacSHA512", 0, 0), password, asByDefault ? 210000 : 1000);
        print("pbkdf2-sha256 of 512 bits", new Pbkdf2PasswordHashProvider("pbkdf2-sha256", "PBKDF2WithHmacSHA256", 0, 0), password, asByDefault ? 27500 : 1000);
    }

    static void print(String name, PasswordHashProvider provider, String password, int iterations) throws Exception {
        PasswordCredentialModel model = provider.encodedCredential(password, iterations);
        Credential credential = new Credential("password", model.getSecretData(), model.getCredentialData());
        System.out.println("Keycloak " + name + "\t" + JsonSerialization.writeValueAsString(credential));
    }
}
