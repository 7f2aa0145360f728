package bfbridge;

import java.lang.reflect.Field;
import java.util.Map;
import loci.common.services.Service;
import loci.common.services.ServiceFactory;
import loci.formats.services.JHDFService;
import ome.codecs.services.JAIIIOService;

/** Registers classes of bfbridge as services of the readers. */
final class Services {

  private Services() {}

  /** Replaces the services of Bio-Formats' file services.properties, for all readers of this Java. */
  static void install() throws ReflectiveOperationException, Exception {
    ServiceFactory made = new ServiceFactory();
    Field standard = ServiceFactory.class.getDeclaredField("defaultFactory");
    standard.setAccessible(true);
    Field services = ServiceFactory.class.getDeclaredField("services");
    services.setAccessible(true);
    @SuppressWarnings("unchecked")
    Map<Class<? extends Service>, Class<? extends Service>> places =
        (Map<Class<? extends Service>, Class<? extends Service>>) services.get(standard.get(made));
    places.put(JHDFService.class, Hdf5.class);
    places.put(JAIIIOService.class, Jpeg2000.class);
  }
}
